"""What is done to the stick, and what the agent has to have saved.

Every experiment returns its figures as (name, text) and the promises that it saw broken."""
import datetime
import json
import os
import random
import shutil
import statistics
import struct
import time

import stick
from agent import FRAME_MS, FRAME_OCTETS, RPC_PORT, RTP_PORT, Agent, Call, Refused, program, read_recording, verify
from machine import Machine, say

FLUSH_MS = 1000                     # storage.flush_interval_ms
LOSS_LIMIT_MS = FLUSH_MS + 1000
REPORT_LIMIT_S = 2.0                # from the pull to recording.failed
ANSWER_LIMIT_MS = 50                # of the user interface's requests
STALL_BEFORE_PULL_S = 1.5           # nothing of this time can have reached the stick
RESUME_WINDOW_S = 30                # storage.resume_window_s, of `resume` only
CROWD_LIMIT_S = 15                  # looking at all recordings first took 35 s, for 3,000 of them
SETTLE_S = 8                        # for the repair of an inserted stick to be told


def spread(values, unit, digits=0):
    if not values:
        return "none"
    return (f"median {statistics.median(values):.{digits}f} {unit}, worst {max(values):.{digits}f} {unit}"
            f" ({len(values)})")


class Experiment:
    """A machine with an agent and a fresh stick, and a record of what went wrong."""

    def __init__(self, filesystem):
        self.filesystem = filesystem
        self.machine = Machine(tcp=[RPC_PORT], udp=[RTP_PORT])
        self.image = stick.make(f"{self.machine.dir}/{filesystem}.img", filesystem)
        self.figures, self.broken = [], []

    def begin(self, storage=""):
        self.machine.boot()
        self.machine.plug(self.image)
        self.agent = Agent(self.machine, storage)
        return self

    def figure(self, name, text):
        self.figures.append((name, text))
        say(f"    {name}: {text}")

    def hold(self, condition, promise):
        if not condition:
            self.broken.append(promise)
            say(f"  ! {promise}")
        return condition

    def finish(self):
        self.machine.power_cut()
        return self.figures, self.broken

    # -- what is on a stick

    def judge(self, image, books, when, repaired, limit_ms=LOSS_LIMIT_MS):
        """Compares a stick with the books of the calls; returns the loss of each call that was cut off, in ms."""
        files = stick.files(image, "Record")
        losses = []
        for file, state, sent in books:
            if file is None:
                continue
            content = files.get(file)
            if not self.hold(content is not None, f"{when}: {file} ({state}, {sent} packets) is not there"):
                continue
            found = read_recording(content)
            if not self.hold(found, f"{when}: {file} ({len(content)} octets, {state}) does not open"):
                continue
            lost = (sent - found["kept"] + found["filled"]) * FRAME_MS
            if state == "ended":
                self.hold(lost == 0 and found["exact"], f"{when}: {file} had ended: {lost} ms lost, {found}")
            else:
                losses.append(lost)
                self.hold(lost <= limit_ms, f"{when}: {file} ({state}): {lost} ms lost of {sent * FRAME_MS}")
            if repaired:
                self.hold(found["exact"], f"{when}: {file}: dataSize is not exact: {found}")
        if repaired:
            self.verify(files, when)
        return losses

    def verify(self, files, when):
        folder = f"{self.machine.dir}/files"
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        for name, content in files.items():
            with open(f"{folder}/{name}", "wb") as file:
                file.write(content)
        for name, (status, faults) in verify(folder).items():
            self.hold(status == "ok", f"{when}: recordctl verify: {name}: {status}: {faults}")

    def put_back(self, image, is_due):
        """Plugs a stick and waits until it is repaired: (seconds from plug to insertion told, repair told).

        A stick without anything to repair gets a moment to be looked at."""
        since, plugged = self.agent.mark(), time.monotonic()
        self.machine.plug(image)
        inserted = self.agent.wait("storage.inserted", since)
        assert inserted, "storage.inserted did not come"
        recovered = self.agent.wait("storage.recovered", since, SETTLE_S if is_due else 1)
        return inserted[0] - plugged, recovered

    def take_out(self):
        """Pulls a stick that nothing is recorded to."""
        since = self.agent.mark()
        when = self.machine.pull()
        removed = self.agent.wait("storage.removed", since, 10)
        self.hold(removed, "storage.removed did not come within 10 s")
        self.machine.release()
        return removed[0] - when if removed else 10

    def leaks(self):
        """What must not grow: open descriptors and threads."""
        proc = f"/proc/{self.agent.pid}"
        # A descriptor that is closed while they are listed makes ls complain.
        return tuple(int(number) for number in self.machine.run(
            f"ls {proc}/fd 2>/dev/null | wc -l; ls {proc}/task | wc -l").split())


# --------------------------------------------------------------------------------------------- power cut

def cuts(filesystem, count, kills):
    """The power fails, `count` times at moments of one life of the stick, and `kills` times in earnest."""
    it = Experiment(filesystem).begin()
    moments, calls, call = [], [], None
    say(f"  {count} snapshots of a stick that is recorded to")
    while len(moments) < count:
        if call is None:
            call = it.agent.start_call()
            calls.append(call)
            time.sleep(random.choice([0, 0.2, 1, 2]))
        kind = random.random()
        if kind < 0.12 and call.sent > 200:
            moments += [cut_at_stop(it, calls, call, len(moments))]
            call = None
        elif kind < 0.2 and call.sent > 200:
            it.agent.end_call(call)
            fresh, moment = cut_at_start(it, calls, len(moments))
            calls.append(fresh)
            moments.append(moment)
            call = fresh
        else:
            time.sleep(random.uniform(0.1, 1.5))
            moments.append(snapshot(it, calls, len(moments)))
    if call:
        it.agent.end_call(call)
    raw = [loss for image, books in moments for loss in it.judge(image, books, "as cut off", False)]
    it.take_out()
    it.judge(it.image, [call.book() for call in calls], "at the end", True)

    say("  each snapshot put into the phone, repaired, pulled and read")
    losses, unsaid = [], 0
    for number, (image, books) in enumerate(moments):
        # One that was being stopped may have been finished.
        due = any(file and state == "recording" for file, state, _ in books)
        _, recovered = it.put_back(image, due)
        unsaid += bool(due and not recovered)
        it.take_out()
        losses += it.judge(image, books, f"cut {number} repaired", True)
        if not it.broken:
            os.remove(image)
    for number in range(kills):
        losses += kill(it, number)
    it.figure(f"{filesystem}: power cuts", f"{count} snapshots, {kills} kills of the machine")
    it.figure(f"{filesystem}: lost in a cut, before repair", spread(raw, "ms"))
    it.figure(f"{filesystem}: lost in a cut, after repair", spread(losses, "ms"))
    it.hold(unsaid == 0, f"{filesystem}: {unsaid} repairs were not told (storage.recovered)")
    return it.finish()


def snapshot(it, calls, number):
    """A power cut at this moment, as far as the stick is concerned: (image, books)."""
    image = f"{it.machine.dir}/cut{number}.img"
    live = calls[-1]
    live.hold()
    it.machine.freeze()
    it.machine.snapshot(image)
    books = [call.book() for call in calls]
    it.machine.thaw()
    live.go_on()
    return image, books


def cut_at_stop(it, calls, call, number):
    """A cut while a file is being finished."""
    call.hang_up()
    time.sleep(0.1)
    since = it.agent.mark()
    call.state = "stopping"
    request = it.agent.send("record.stop", recording=call.recording)
    time.sleep(random.uniform(0, 0.15))
    moment = snapshot(it, calls, number)
    it.agent.reply(request)
    assert it.agent.wait("recording.ended", since, recording=call.recording)
    call.state = "ended"
    return moment


def cut_at_start(it, calls, number):
    """A cut while a file is being made: (call, (image, books))."""
    call = Call(it.machine)
    request = it.agent.send("record.start", mode="local", codec="PCMA", call={"id": "rig"})
    time.sleep(random.uniform(0, 0.15))
    moment = snapshot(it, [*calls, call], number)
    it.agent.adopt(call, it.agent.reply(request)[1])
    call.talk()
    return call, moment


def kill(it, number):
    """The machine is killed in mid-call and boots again; the agent finds the stick at its start."""
    it.machine.plug(it.image)
    assert it.agent.wait("storage.inserted", 0)
    call = it.agent.start_call()
    time.sleep(random.uniform(1.5, 5))
    call.hold()
    it.machine.power_cut()
    books = [call.book()]
    call.go_on()
    call.hang_up()
    it.machine = Machine(tcp=[RPC_PORT], udp=[RTP_PORT])
    it.machine.boot()
    it.machine.plug(it.image)
    it.agent = Agent(it.machine)
    it.agent.wait("storage.recovered", 0, SETTLE_S)
    it.take_out()
    return it.judge(it.image, books, f"kill {number}", True)


# --------------------------------------------------------------------------------------------------- pull

def pulls(filesystem, count):
    """The stick is pulled out of a running recording, put back, and recorded to at once, `count` times."""
    it = Experiment(filesystem).begin()
    before = it.leaks()
    reported, removed, lost, lost_late, back, books, survived = [], [], [], [], [], [], 0
    call = it.agent.start_call()
    for number in range(count):
        time.sleep(random.uniform(0.3, 4))
        broken = len(it.broken)
        kind = ("call", "call", "stop", "stall", "call")[number % 5]
        since = it.agent.mark()
        if kind == "stall":         # the pull finds a write under way
            it.machine.throttle(1)
            time.sleep(STALL_BEFORE_PULL_S)
        if kind == "stop":          # the pull finds a file being finished
            call.hang_up()
            it.agent.send("record.stop", recording=call.recording)
        call.hold()
        pulled, sent = it.machine.pull(), call.sent
        call.go_on()
        event = it.agent.wait(["recording.failed", "recording.ended"], since, 15, call.recording)
        call.hang_up()
        if it.hold(event, f"pull {number} ({kind}): neither failed nor ended within 15 s"):
            call.state = event[1].rsplit(".", 1)[1]
            if call.state == "failed":
                reported.append(event[0] - pulled)
                it.hold(reported[-1] <= REPORT_LIMIT_S, f"pull {number} ({kind}): told after {reported[-1]:.2f} s")
                it.hold(event[2].get("reason") == "storage_io", f"pull {number}: reason {event[2].get('reason')}")
            else:
                it.hold(kind == "stop", f"pull {number} ({kind}): told as ended")
        gone = it.agent.wait("storage.removed", since, 10)
        if it.hold(gone, f"pull {number}: storage.removed did not come within 10 s"):
            removed.append(gone[0] - pulled)
        it.hold(it.agent.answered_within("agent.info") < 1, f"pull {number}: the agent is slow to answer")
        held = it.machine.run(f"ls -l /proc/{it.agent.pid}/fd 2>/dev/null | grep -c /media/ || true").strip()
        it.hold(held == "0", f"pull {number}: {held} descriptors of the pulled stick are open")
        it.machine.release()
        late = STALL_BEFORE_PULL_S if kind == "stall" else 0
        loss = it.judge(it.image, [(call.file, call.state, sent)], f"pull {number} ({kind})", False,
                        LOSS_LIMIT_MS + late * 1000)
        (lost_late if late else lost).extend(loss)
        books.append((call.file, call.state, sent))
        inserted, _ = put_back_and_call(it)
        back.append(inserted)
        call = it.call
        survived += len(it.broken) == broken
        if number % 10 == 9:
            say(f"  {number + 1} pulls")
    it.agent.end_call(call)
    after = it.leaks()
    it.take_out()
    it.judge(it.image, [*books, call.book()], "after all pulls", True, LOSS_LIMIT_MS + STALL_BEFORE_PULL_S * 1000)
    it.figure(f"{filesystem}: pulls survived", f"{survived} of {count}")
    it.figure(f"{filesystem}: pull to recording.failed", spread(reported, "s", 2))
    it.figure(f"{filesystem}: pull to storage.removed", spread(removed, "s", 2))
    it.figure(f"{filesystem}: lost in a pull", spread(lost, "ms"))
    it.figure(f"{filesystem}: lost in a pull {STALL_BEFORE_PULL_S} s into a stall", spread(lost_late, "ms"))
    it.figure(f"{filesystem}: put back to storage.inserted", spread(back, "s", 1))
    it.figure(f"{filesystem}: descriptors, threads before and after", f"{before}, {after}")
    it.hold(after[0] <= before[0] + 1 and after[1] <= before[1], f"{filesystem}: it grows: {before} to {after}")
    return it.finish()


def put_back_and_call(it):
    """Puts the stick back and records at once: (seconds to insertion told, seconds to the call's start)."""
    since, plugged = it.agent.mark(), time.monotonic()
    it.machine.plug(it.image)
    inserted = it.agent.wait("storage.inserted", since)
    assert inserted, "storage.inserted did not come"
    it.call = it.agent.start_call()
    return inserted[0] - plugged, time.monotonic() - inserted[0]


def replug(filesystem, count):
    """No call: the stick is pulled and put back; between, a call is refused; afterwards, one is recorded."""
    it = Experiment(filesystem).begin()
    removed, back, ready = [], [], []
    for number in range(count):
        removed.append(it.take_out())
        try:
            it.agent.start_call(talk=False)
            it.hold(False, f"replug {number}: recording began without a stick")
        except Refused as refused:
            it.hold(refused.reason == "no_storage", f"replug {number}: refused with {refused.reason}")
        inserted, started = put_back_and_call(it)
        back.append(inserted)
        ready.append(started)
        time.sleep(0.5)
        it.agent.end_call(it.call)
        books = [it.call.book()]
    it.take_out()
    it.judge(it.image, books, "after replugging", True)
    it.figure(f"{filesystem}: stick put back, idle", f"{count} times")
    it.figure(f"{filesystem}: pull to storage.removed, idle", spread(removed, "s", 2))
    it.figure(f"{filesystem}: put back to storage.inserted, idle", spread(back, "s", 1))
    it.figure(f"{filesystem}: storage.inserted to call recorded", spread(ready, "s", 2))
    return it.finish()


# ------------------------------------------------------------------------------------------------- resume

def resume(filesystem, count):
    """The stick is pulled in mid-call and is back 5 to 10 s later, `count` times: the call goes on in a new file.

    Every fifth call is stopped while there is no stick."""
    it = Experiment(filesystem).begin(f"resume_window_s = {RESUME_WINDOW_S}")
    told, waited, back, lost, sent, survived = [], [], [], [], 0, 0
    for number in range(count):
        broken, since = len(it.broken), it.agent.mark()
        call = it.agent.start_call()
        time.sleep(random.uniform(1.5, 5))
        call.hold()
        pulled, book = it.machine.pull(), (call.file, "pulled", call.sent)
        call.go_on()
        stalled = it.agent.wait(["recording.stalled", "recording.failed"], since, 10, call.recording)
        if it.hold(stalled and stalled[1] == "recording.stalled", f"resume {number}: told as {stalled}"):
            told.append(stalled[0] - pulled)
            it.hold(told[-1] <= REPORT_LIMIT_S, f"resume {number}: told after {told[-1]:.2f} s")
        it.machine.release()
        lost += it.judge(it.image, [book], f"resume {number}, as pulled", False)
        time.sleep(max(0, pulled + random.uniform(5, 10) - time.monotonic()))
        stops = number % 5 == 4
        since = it.agent.mark()
        if stops:
            call.hang_up()
            time.sleep(0.1)
            it.agent.ask("record.stop", recording=call.recording)
        waited.append(it.agent.ask("record.status", recording=call.recording)["buffered_ms"])
        plugged = time.monotonic()
        it.machine.plug(it.image)
        segment = it.agent.wait("recording.segment", since, 20, call.recording)
        if it.hold(segment, f"resume {number}: no new file"):
            back.append(segment[0] - plugged)
        if stops:
            ended = it.agent.wait(["recording.ended", "recording.failed"], since, 20, call.recording)
            ended = ended and ended[2]
        else:
            time.sleep(random.uniform(1, 3))
            ended = it.agent.end_call(call)
        it.take_out()
        judge_resumed(it, call, ended, f"resume {number}")
        sent += call.sent
        survived += len(it.broken) == broken
        it.put_back(it.image, False)
    it.figure(f"{filesystem}: calls that went on after a pull", f"{survived} of {count}")
    it.figure(f"{filesystem}: pull to recording.stalled", spread(told, "s", 2))
    it.figure(f"{filesystem}: not on the stick when it was pulled", spread(lost, "ms"))
    it.figure(f"{filesystem}: in memory when it was put back", spread(waited, "ms"))
    it.figure(f"{filesystem}: put back to recording.segment", spread(back, "s", 1))
    it.figure(f"{filesystem}: packets that are in neither file", f"{'none' if not it.broken else it.broken} of {sent}")
    return it.finish()


def judge_resumed(it, call, ended, when):
    """Both files together hold every packet once, and both sidecars and the agent say so."""
    if not it.hold(ended and ended["state"] == "ended" and not ended["degraded"], f"{when}: told as {ended}"):
        return
    it.hold(ended["packets"]["received"] == call.sent, f"{when}: {call.sent} sent, {ended}")
    files = stick.files(it.image, "Record")
    names = [call.file, ended["file"].rsplit("/", 1)[-1]]
    kept, received, reasons = 0, 0, []
    for name in names:
        found = read_recording(files.get(name, b""), kept)
        if not it.hold(found and found["exact"] and not found["filled"], f"{when}: {name}: {found}"):
            return
        kept += found["kept"]
        sidecar = json.loads(files[name.replace(".wav", ".json")])
        received += sidecar["packets"]["received"]
        reasons.append((sidecar["segment"], sidecar["end_reason"]))
    it.hold(kept == call.sent, f"{when}: {kept} packets in both files of {call.sent} sent")
    it.hold(received == call.sent, f"{when}: {received} packets in both sidecars of {call.sent} sent")
    it.hold(reasons == [(1, "storage_io"), (2, "stopped")], f"{when}: the sidecars say {reasons}")
    it.verify(files, when)


# -------------------------------------------------------------------------------------------------- stall

def stall(filesystem, seconds):
    """The stick takes nothing for `seconds` in mid-call, and again for 5 s while the call is stopped."""
    it = Experiment(filesystem).begin()
    call = it.agent.start_call()
    since = it.agent.mark()
    usual = answers(it, 4)
    it.machine.throttle(1)
    during = answers(it, seconds)
    waiting = it.agent.ask("record.status", recording=call.recording)["buffered_ms"]
    it.machine.throttle(0)
    time.sleep(3)
    told = it.agent.wait("recording.stalled", since, 0) is not None
    it.machine.throttle(1)
    time.sleep(1.5)
    call.hang_up()
    time.sleep(0.1)
    since, asked = it.agent.mark(), time.monotonic()
    when, status = it.agent.reply(it.agent.send("record.stop", recording=call.recording))
    stopping = it.agent.wait("recording.ended", since, 2, call.recording) is None
    it.machine.throttle(0)
    ended = it.agent.wait("recording.ended", since, 20, call.recording)
    it.hold(ended, "recording.ended did not come after the stall")
    call.state = "ended"
    it.take_out()
    it.judge(it.image, [call.book()], "after the stall", True)
    it.hold(status["state"] == "stopping" and stopping, f"stop in a stall: {status['state']}")
    it.hold(not ended or not ended[2]["degraded"], "the recording is degraded")
    # The emulator has pauses of its own, so only what is usual counts, not each answer.
    slow = sum(took > ANSWER_LIMIT_MS for took in during)
    it.hold(slow <= max(1, len(during) // 50), f"{slow} of {len(during)} answers in the stall took over"
            f" {ANSWER_LIMIT_MS} ms")
    it.figure(f"{filesystem}: stall", f"{seconds} s, {waiting} ms in memory at its end, told: {told}")
    it.figure(f"{filesystem}: packets lost in the stall", f"{'none' if not it.broken else it.broken}"
              f" of {call.sent}")
    it.figure(f"{filesystem}: answers before the stall", spread(usual, "ms", 1))
    it.figure(f"{filesystem}: answers in the stall", spread(during, "ms", 1))
    it.figure(f"{filesystem}: answer to stop in the stall", f"{(when - asked) * 1000:.1f} ms, {status['state']}")
    return it.finish()


def answers(it, seconds):
    """How long status requests take, asked ten times a second: milliseconds."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        took.append(it.agent.answered_within() * 1000)
        time.sleep(0.1)
    return took


# ------------------------------------------------------------------------------------------------ measure

def measure(filesystem="vfat", seconds=20):
    """Memory and wake-ups of the agent, idle and with one call."""
    it = Experiment(filesystem).begin()
    time.sleep(2)
    idle = wakeups(it, seconds)
    idle_kib = memory(it)
    call = it.agent.start_call()
    time.sleep(3)
    busy = wakeups(it, seconds)
    busy_kib = memory(it)
    it.agent.end_call(call)
    for name in ("recordd", "recordctl"):
        it.figure(f"{name}: size of the static binary", f"{os.path.getsize(program(name)) / 1024:.0f} KiB")
    it.figure("recordd: resident memory", f"idle {idle_kib} KiB, one call {busy_kib} KiB")
    for name, counts in (("idle", idle), ("one call", busy)):
        each = ", ".join(f"{thread} {count:.1f}" for thread, count in sorted(counts.items()))
        it.figure(f"recordd: waits a second, {name} ({seconds} s)", each)
    return it.finish()


def wakeups(it, seconds):
    """Voluntary context switches a second of each thread: a wake-up each, or a wait for the stick."""
    def counts():
        lines = it.machine.run(f"cd /proc/{it.agent.pid}/task && grep -h '^Name\\|^voluntary' */status")
        words = [line.split()[1] for line in lines.splitlines()]
        return dict(zip(words[::2], map(int, words[1::2])))
    first, begun = counts(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    return {thread: (count - first[thread]) / took for thread, count in counts().items()}


def memory(it):
    """Resident octets, exactly: what `status` tells lags behind by up to 64 pages a thread."""
    return int(it.machine.run(f"grep ^Rss /proc/{it.agent.pid}/smaps_rollup").split()[1])


# -------------------------------------------------------------------------------------------------- crowd

def crowd(filesystem, count):
    """A call begins as soon as a stick with `count` recordings is there: it is recorded at once, and whole."""
    it = Experiment(filesystem)
    stick.fill(it.image, "Record", old_recordings(count))
    it.begin()
    since, asked, call = it.agent.mark(), time.monotonic(), Call(it.machine)
    call.recording = it.agent.ask("record.start", mode="local", codec="PCMA")["recording"]
    call.talk()
    started = it.agent.wait("recording.started", since, 300)
    call.file = started[2]["file"].rsplit("/", 1)[-1]
    it.hold(started[0] - asked < CROWD_LIMIT_S, f"recording.started {started[0] - asked:.1f} s after it was asked for")
    it.figure(f"{filesystem}, {count} recordings: asked to recording.started", f"{started[0] - asked:.1f} s")
    time.sleep(5)
    busy = it.agent.ask("record.status", recording=call.recording)["buffered_ms"]
    stats = it.agent.ask("stats.get")
    it.figure("in memory after 5 s", f"{busy} ms, longest write {stats['longest_write_ms']} ms")
    it.figure("recordd: resident memory", f"{memory(it)} KiB")
    cpu = it.machine.run(f"cat /proc/{it.agent.pid}/task/*/stat | awk '{{print $2, ($14 + $15) / 100, \"s\"}}'")
    it.figure("recordd: CPU so far", ", ".join(cpu.split("\n")).strip(", "))
    it.agent.end_call(call)
    it.take_out()
    it.judge(it.image, [call.book()], "a call on a crowded stick", True)
    return it.finish()


def old_recordings(count):
    """{name: content}: `count` recordings of a second, as the agent leaves them."""
    files = {}
    for number in range(count):
        when = datetime.datetime(2026, 1, 1) + datetime.timedelta(minutes=3 * number)
        name, octets = f"Record_{when:%Y%m%d-%H%M%S}", 50 * FRAME_OCTETS
        header = struct.pack("<64siiI", b"PCMA", FRAME_OCTETS, FRAME_OCTETS, octets)
        files[f"{name}.wav"] = header + b"\xd5" * octets
        files[f"{name}.json"] = json.dumps({
            "version": 1, "recording": f"{number:016x}", "segment": 1, "file": f"{name}.wav",
            "call": {"id": str(number), "direction": "in", "remote_number": "100"}, "codec": "PCMA", "ptime_ms": 20,
            "start": f"{when:%Y-%m-%dT%H:%M:%S}.000Z", "clock_set": True, "state": "ended", "duration_ms": 1000,
            "data_bytes": octets, "packets": {"received": 50, "lost": 0, "late": 0, "duplicate": 0, "dropped": 0},
            "gaps": [], "gaps_total": 0, "gap_ms_total": 0, "pauses": [], "end_reason": "stopped"}).encode()
    return files


# -------------------------------------------------------------------------------------------------- clock

TEN_YEARS_S = 10 * 365 * 86400
CLOCK_JUMPS_S = {"a second on": 1, "a second back": -1, "an hour on": 3600, "an hour back": -3600,
                 "ten years back": -TEN_YEARS_S, "ten years on": TEN_YEARS_S}


def clock(filesystem):
    """The phone's clock is set in mid-call, as NTP does it, once and again: no call notices."""
    it = Experiment(filesystem).begin('max_file_size = "16 KiB"')
    it.machine.run("date -s @86400")
    books, jumps = [], {"from 1970 to today": int(time.time()) - 86400, **CLOCK_JUMPS_S}
    for jump, seconds in jumps.items():
        since, call = it.agent.mark(), it.agent.start_call()
        time.sleep(2.3)
        it.machine.run(f"date -s @$(($(date +%s) + {seconds}))")
        slow = max(answers(it, 1))
        time.sleep(2)
        ended = it.agent.end_call(call)
        it.hold(ended["packets"]["received"] == call.sent and ended["packets"]["lost"] == 0
                and ended["elapsed_ms"] == call.sent * FRAME_MS, f"{jump}: {call.sent} packets sent, told: {ended}")
        segments = [event for event in it.agent.events[since:] if event[1] == "recording.segment"]
        books.append((jump, call, [call.file, *(event[2]["file"].rsplit("/", 1)[-1] for event in segments)]))
        it.figure(f"{filesystem}: clock {jump}", f"{call.sent} packets in {1 + len(segments)} files,"
                  f" {ended['packets']['lost']} lost; longest answer {slow:.0f} ms")
    it.take_out()
    files = stick.files(it.image, "Record")
    for jump, call, names in books:
        kept = 0
        for name in names:
            found = read_recording(files.get(name, b""), kept)
            if it.hold(found and found["exact"] and not found["filled"], f"{jump}: {name}: {found}"):
                kept += found["kept"]
        it.hold(kept == call.sent, f"{jump}: {kept} packets in {names} of {call.sent} sent")
    it.verify(files, "after the jumps")
    return it.finish()


# ----------------------------------------------------------------------------------------------- selftest

def selftest(filesystem):
    """That the rig itself is right: a whole call, a loss that is there is seen, a pull arrives."""
    it = Experiment(filesystem).begin()
    call = it.agent.start_call()
    time.sleep(3)
    ended = it.agent.end_call(call)
    it.take_out()
    it.judge(it.image, [call.book()], "a whole call", True)
    files = stick.files(it.image, "Record")
    found = read_recording(files[call.file])
    it.hold(found and found["kept"] == call.sent, f"{call.sent} packets sent, on the stick: {found}")
    damaged = read_recording(files[call.file][:-1000])
    it.hold(not damaged["exact"] and damaged["kept"] < call.sent, "a file cut short is not seen as such")
    it.figure(f"{filesystem}: a call of 3 s", f"{call.sent} packets sent, {found['kept']} on the stick,"
              f" {ended['packets']['received']} received")
    return it.finish()
