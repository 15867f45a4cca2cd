#!/usr/bin/env python3
"""A record key: light and prompt of a phone that records with recordd, written from docs/local-api.md alone.

    python3 record_key.py /run/recordd.sock

Keys are lines of its input: record, record server, pause, resume, stop. What the key shows are lines of its output:
`light` when that changes, `prompt` when something is to be said. A real phone draws the timer anew with each status.
"""
import json
import os
import select
import socket
import sys
import time

# Keys and texts of "What to show"; a phone has these in the language of its user.
TEXTS = {
    "storage_absent": "No stick: insert one",
    "storage_path_missing": "The folder for recordings is missing",
    "storage_not_removable": "The folder for recordings is not on a stick",
    "storage_ejected": "The stick was ejected: pull it and insert it again",
    "storage_pulled": "The stick was pulled: insert it again",
    "storage_not_a_folder": "A file stands where the folder for recordings should be",
    "storage_off_disk": "The folder for recordings leads off the stick",
    "storage_denied": "The stick may not be written to",
    "storage_full": "The stick is full: delete recordings, or use another one",
    "storage_file_too_large": "No file on the stick may grow so large",
    "storage_read_only": "The stick is write-protected",
    "storage_broken": "The stick gives errors: use another one",
    "storage_silent": "The stick does not answer: wait, or pull it and insert it again",
    "server_unreachable": "The recording server can't be reached",
    "server_timeout": "The recording server does not answer",
    "server_refused": "The recording server refused",
    "stopped_by_server": "The recording server ended the recording",
    "uplink_lost": "The connection to the recording server broke",
    "goes_on_locally": "The recording server failed: recording to the stick",
    "pbx_timeout": "The PBX does not answer",
    "pbx_refused": "The PBX refused",
    "unsupported_by_server": "The PBX can't record",
    "no_media": "Nothing was recorded: no audio came",
    "media_encrypted": "The audio was encrypted: not all was recorded",
    "media_wrong_payload_type": "The audio was of a codec that can't be recorded: not all was recorded",
    "audio_lost": "Some audio was lost: the stick or the phone was too slow",
    "shutdown": "The recorder was ended",
    "not_configured": "Recording is not set up",
    "unsupported_codec": "This codec can't be recorded",
    "too_many_recordings": "Too many recordings at once: stop one first",
    "permission_denied": "The system does not allow it",
}


class RecordKey:
    """One connection to the agent; what is shown goes on with the next one."""

    def __init__(self, path):
        self.status, self.disk, self.asked, self.last_id, self.unread = None, None, {}, 0, b""
        self.agent = socket.socket(socket.AF_UNIX)
        self.agent.connect(path)
        # In this order nothing falls in between, and a key that starts in mid-call needs no more.
        self.ask("events.subscribe", types=["recording.", "storage.", "uplink.lost"])
        self.ask("agent.info")

    def ask(self, method, **params):
        self.last_id += 1
        self.asked[self.last_id] = method
        request = {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}
        self.agent.sendall(json.dumps(request).encode() + b"\n")

    def press(self, key):
        verb, _, mode = key.partition(" ")
        if verb == "record":
            # The answer has the `rtp` that the phone's media stack sends the call's audio to.
            self.ask("record.start", codec="PCMA", mode=mode or "local")
        elif verb in ("pause", "resume", "stop") and self.status:
            self.ask("record." + verb, recording=self.status["recording"])

    def read(self):
        octets = self.agent.recv(65536)
        if not octets:
            raise ConnectionError("the agent has closed the connection")
        *lines, self.unread = (self.unread + octets).split(b"\n")
        for message in map(json.loads, lines):
            if "method" in message:
                self.told(message["method"], message["params"])
            elif "result" in message:
                self.answered(self.asked.pop(message["id"]), message["result"])
            else:
                self.asked.pop(message["id"], None)
                self.prompt(message["error"].get("data", {}))

    def told(self, event, params):
        self.prompt(params)
        if event == "storage.state":
            self.disk = params["to"]
        elif event in ("recording.ended", "recording.failed"):
            if self.status and self.status["recording"] == params["recording"]:
                self.status = None
        elif event.startswith("recording."):
            self.status = params

    def answered(self, method, result):
        if method == "agent.info":
            self.disk = result["storage"]["state"]
            self.status = result["recordings"][-1] if result["recordings"] else None
        elif method == "record.start":
            self.ask("agent.info")
        elif method.startswith("record.") and self.status:
            self.status = result

    def prompt(self, params):
        """Rule one: a prompt if and only if there is a `text_key` that is not null."""
        key = params.get("text_key")
        if key:
            text = TEXTS.get(key, "The recording is not complete")
            words = params.get("detail") if key in ("server_refused", "stopped_by_server") else None
            print("prompt", f"{text}: {words}" if words else text, flush=True)

    def light(self):
        """Rule two: the light is made anew from each status; the first line that fits counts."""
        status = self.status
        if status is None:
            return "off" if self.disk in ("ok", "low", None) else f"off, stick {self.disk}"
        if status["state"] != "recording":
            return status["state"]
        if status["stalled"]:
            return "recording, the stick does not keep up"
        if status["media"] == "none":
            return "recording, no audio"
        if status["media"] in ("encrypted", "wrong_payload_type"):
            return "recording, no audio that can be recorded"
        return "recording, some audio was lost" if status["degraded"] else "recording"


def main(path):
    key, shown = None, None
    while True:
        try:
            key = key or RecordKey(path)
            ready = select.select([key.agent, sys.stdin], [], [])[0]
            if key.agent in ready:
                key.read()
            if sys.stdin in ready:
                lines = os.read(sys.stdin.fileno(), 4096).decode().splitlines()
                if not lines:
                    return
                for line in lines:
                    key.press(line.strip())
            light = key.light() if "agent.info" not in key.asked.values() else shown
        except OSError:
            key, light = None, "off, no recorder"
            time.sleep(0.5)
        if light != shown:
            shown = light
            seconds = key.status["elapsed_ms"] // 1000 if key and key.status else None
            timer = "" if seconds is None else f" {seconds // 60}:{seconds % 60:02}"
            print(f"light {light}{timer}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/run/recordd.sock")
