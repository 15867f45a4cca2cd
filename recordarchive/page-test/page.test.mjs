// Chromium drives the page of a real archive, over recordings that the real agent made.
// Environment: BUILD, a folder with recordd, recordctl and recordarchive; WORK, an empty folder; PICTURE, a PNG to write.
import assert from "node:assert/strict";
import { spawn, execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import path from "node:path";

const { BUILD, WORK, PICTURE, MODULES } = process.env;
const { chromium } = createRequire(path.join(MODULES, "x.js"))("playwright-core");
const PASSWORD = "correct horse battery";
let archive, setup, base, browser;

// Twelve seconds of A-law: something like speech, four seconds of silence, and speech again.
function clip() {
  const octets = Buffer.alloc(12 * 8000, 0xd5);
  let seed = 7;
  const chance = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  for (let at = 0; at < octets.length; at += 640) {
    if (at >= 3 * 8000 && at < 7 * 8000) continue;
    const loud = Math.floor(chance() * 8);
    for (let i = at; i < at + 640; i++) octets[i] = ((i >> 4) & 1 ? 0x80 : 0) | (loud << 4 ^ 0x50) | Math.floor(chance() * 16);
  }
  return octets;
}

function record(number, name, script, ...more) {
  const folder = path.join(WORK, "intake");
  mkdirSync(folder, { recursive: true });
  execFileSync(path.join(BUILD, "recordctl"), ["simulate-phone", "--spawn", path.join(BUILD, "recordd"), "--dir", folder,
    "--script", script, "--speed", "8", "--direction", "in", "--remote-number", number, "--remote-name", name,
    "--local-number", "201", "--local-name", "Front Desk", "--call-id", `c${number}`, ...more], { stdio: "pipe" });
}

before(async () => {
  writeFileSync(path.join(WORK, "clip"), clip());
  record("+493023125001", "Anna Müller", "talk 12; pause 2; talk 12; stop",
    "--clip", path.join(WORK, "clip"), "--loss", "3");
  record("+493023125002", "<b>Otto</b> <img src=x onerror=alert(1)>", "talk 5; stop");
  archive = spawn(path.join(BUILD, "recordarchive"), ["--data", path.join(WORK, "data"), "--intake", path.join(WORK, "intake"),
    "serve", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: archive.stdout });
  for await (const line of lines) {
    base ??= /listens on (http\S+)/.exec(line)?.[1];
    setup ??= /(http\S+\/setup\?key=\S+)/.exec(line)?.[1];
    if (base && setup) break;
  }
  archive.stdout.resume();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage"] });
});

after(async () => {
  await browser?.close();
  archive?.kill("SIGTERM");
});

// A window of somebody of their own; what goes wrong in it is an error of the test.
async function person(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.wrong = [];
  page.on("pageerror", (error) => page.wrong.push(String(error)));
  page.on("console", (message) => { if (/Content Security Policy|Refused to/.test(message.text())) page.wrong.push(message.text()); });
  page.setDefaultTimeout(10_000);
  return page;
}

async function logIn(page, name) {
  await page.goto(`${base}/login`);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("button", { name: "Log out" }).waitFor();
}

const now = (page) => page.evaluate(() => document.querySelector("call-player audio").currentTime);
const until = (page, test, argument) => page.waitForFunction(test, argument, { timeout: 10_000 });
let supervisor;

test("the set-up link makes the first account, which adds others", async () => {
  const page = await person();
  await page.goto(setup);
  await page.getByLabel("Name").fill("root");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Make the account" }).click();
  await page.getByText("The account is there.").waitFor();
  await page.getByRole("link", { name: "Log in" }).click();
  await logIn(page, "root");
  await page.goto(`${base}/accounts`);
  for (const [name, role] of [["sue", "supervisor"], ["ines", "investigator"], ["carla", "compliance"], ["cem", "compliance"]]) {
    await page.getByLabel("Name").fill(name);
    await page.getByLabel("Role").selectOption(role);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Add the account" }).click();
    await page.getByRole("cell", { name, exact: true }).waitFor();
  }
  await page.goto(`${base}/health`);
  await page.getByText("Recordings", { exact: true }).first().waitFor();
  assert.deepEqual(page.wrong, []);
  await page.context().close();
});

test("a wrong password is told, and a right one opens the list", async () => {
  supervisor = await person();
  await supervisor.goto(`${base}/`);
  assert.match(supervisor.url(), /\/login\?next=/);
  await supervisor.getByLabel("Name").fill("sue");
  await supervisor.getByLabel("Password").fill("correct horse batterx");
  await supervisor.getByRole("button", { name: "Log in" }).click();
  await supervisor.getByText("user or password is wrong").waitFor();
  await logIn(supervisor, "sue");
});

test("a call is found by its last four digits, and the URL is the search", async () => {
  const page = supervisor;
  await until(page, async () => {
    const answer = await fetch("/api/v1/calls");
    return (await answer.json()).calls.length === 2;
  });
  await page.goto(`${base}/`);
  await page.getByRole("searchbox").fill("5001");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=5001/);
  await until(page, () => document.querySelectorAll("table.calls tbody tr").length === 1);
  assert.equal(await page.locator(".calls .name").first().textContent(), "Anna Müller");
  assert.equal(await page.locator(".days a").count(), 1);
});

test("it plays: the media element's clock moves, seeking and keys work, and it goes on while one browses", async () => {
  const page = supervisor;
  await page.locator(".calls .play").click();
  await until(page, () => document.querySelector("call-player audio").currentTime > 0.3);
  const duration = await page.evaluate(() => document.querySelector("call-player audio").duration);
  assert.ok(duration > 23 && duration < 25, `${duration}`);
  // Nothing but what is drawn: the wave has colours.
  const colours = await page.evaluate(() => {
    const canvas = document.querySelector("call-player canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const all = new Set();
    for (let at = 0; at < data.length; at += 4) all.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
    return all.size;
  });
  assert.ok(colours >= 4, `${colours}`);
  await page.locator("#main h1").first().waitFor({ state: "attached" });
  const box = await page.locator("call-player canvas").boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  await until(page, (half) => Math.abs(document.querySelector("call-player audio").currentTime - half) < 1.5, duration / 2);
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press(" ");
  await until(page, () => document.querySelector("call-player audio").paused);
  const at = await now(page);
  for (const [key, by] of [["ArrowLeft", -5], ["ArrowRight", 5], ["j", -10], ["l", 10]]) {
    const from = await now(page);
    await page.keyboard.press(key);
    await until(page, (to) => Math.abs(document.querySelector("call-player audio").currentTime - to) < 0.3, from + by);
  }
  assert.ok(Math.abs(await now(page) - at) < 0.3);
  await page.keyboard.press("]");
  assert.equal(await page.evaluate(() => document.querySelector("call-player audio").playbackRate), 1.25);
  await page.keyboard.press("[");
  await page.evaluate(() => { document.querySelector("call-player audio").currentTime = 0.5; });
  await page.keyboard.press(" ");
  await until(page, () => document.querySelector("call-player audio").currentTime > 0.8);
  // To the call's page and back, and it was never stopped.
  await page.locator(".calls .when a").click();
  await page.waitForURL(/\/calls\//);
  await page.getByRole("heading", { name: "Notes" }).waitFor();
  const before = await now(page);
  await until(page, (from) => document.querySelector("call-player audio").currentTime > from + 0.3, before);
  assert.equal(await page.evaluate(() => document.querySelector("call-player audio").paused), false);
});

test("silence is skipped", async () => {
  const page = supervisor;
  const silent = await page.evaluate(async () => {
    const player = document.querySelector("call-player");
    const { sound } = player.wave;
    for (let i = 1; i < sound.length; i++) if (sound[i][0] - sound[i - 1][1] > 3000) return [sound[i - 1][1], sound[i][0]];
    return null;
  });
  assert.ok(silent, "the call has a long silence");
  const marks = await page.evaluate(() => document.querySelector("call-player").wave);
  assert.ok(marks.gaps.length > 0 && marks.pauses.length === 1, JSON.stringify([marks.gaps, marks.pauses]));
  await page.keyboard.press("s");
  await page.evaluate((from) => {
    const audio = document.querySelector("call-player audio");
    audio.currentTime = from / 1000;
    audio.play();
  }, silent[0]);
  const started = Date.now();
  await until(page, (to) => document.querySelector("call-player audio").currentTime * 1000 >= to - 250, silent[1]);
  assert.ok(Date.now() - started < (silent[1] - silent[0]) * 0.7, "it was not played through");
  await page.keyboard.press("s");
});

test("a note stands at the second that is heard, and tags are kept", async () => {
  const page = supervisor;
  await page.evaluate(() => {
    const audio = document.querySelector("call-player audio");
    audio.pause();
    audio.currentTime = 4.2;
  });
  await page.keyboard.press("n");
  assert.equal(await page.evaluate(() => document.activeElement.name), "text");
  await page.keyboard.type("asks for the manager");
  await page.getByRole("button", { name: "Add" }).click();
  await page.locator(".notes .text", { hasText: "asks for the manager" }).waitFor();
  assert.equal(await page.locator(".notes .seek").getAttribute("data-at"), "4200");
  await page.getByLabel("Tags").fill("complaint, vip");
  await page.getByRole("button", { name: "Save tags" }).click();
  await page.locator(".mark.note").waitFor();
  await until(page, () => document.querySelector("input[name=tags]").value === "complaint, vip");
  if (PICTURE) {
    await page.evaluate(() => { document.querySelector("call-player audio").currentTime = 7; });
    await page.waitForTimeout(300);
    writeFileSync(PICTURE, await page.screenshot());
  }
});

test("what takes a reason asks for it", async () => {
  const page = await person();
  await logIn(page, "ines");
  await page.locator(".calls .play").first().click();
  await page.getByLabel("Why you listen").fill("case 7");
  await page.getByRole("button", { name: "Listen", exact: true }).click();
  await until(page, () => document.querySelector("call-player audio").currentTime > 0.3);
  assert.deepEqual(page.wrong, []);
  await page.context().close();
});

// A window of somebody who is logged in, at a page, with the way to its end.
async function at(name, where) {
  const page = await person();
  await logIn(page, name);
  await page.goto(`${base}${where}`);
  return page;
}

async function leave(...pages) {
  for (const page of pages) {
    assert.deepEqual(page.wrong, []);
    await page.context().close();
  }
}

async function callOf(page, q) {
  return page.evaluate(async (q) => (await (await fetch(`/api/v1/calls?q=${q}`)).json()).calls[0], q);
}

test("an export is asked for by a key, downloaded, and checked by programs that anybody has", async () => {
  const page = await at("ines", "/?q=5001");
  await page.locator(".calls .when a").click();
  await page.getByRole("heading", { name: "Notes" }).waitFor();
  await page.keyboard.press("e");
  assert.equal(await page.evaluate(() => document.activeElement.closest("section").id), "export");
  await page.keyboard.type("case 7");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/exports$/);
  const link = page.getByRole("link", { name: "Download" });
  await link.waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), link.click()]);
  const folder = path.join(WORK, "package");
  mkdirSync(folder);
  await download.saveAs(path.join(folder, "export.zip"));
  const run = (program, ...args) => execFileSync(program, args, { cwd: folder, encoding: "utf8", stdio: "pipe" });
  run("unzip", "-q", "export.zip");
  assert.match(run("sha256sum", "-c", "sha256sums.txt"), /manifest\.json: OK/);
  const key = readFileSync(path.join(WORK, "data", "keys", "site.pub"), "utf8").split("\n")[1];
  assert.match(run("minisign", "-V", "-P", key, "-m", "manifest.json"), /Signature and comment signature verified/);
  assert.match(run(path.join(BUILD, "recordarchive"), "verify-export", "export.zip", "--key", key), /./);
  assert.match(readFileSync(path.join(folder, "custody.jsonl"), "utf8"), /"ines"/);
  await leave(page);
});

test("a hold is placed on a call's page, and ends when a second person releases it", async () => {
  const carla = await at("carla", "/?q=5001");
  await carla.locator(".calls .when a").click();
  const form = carla.locator("section", { has: carla.getByRole("heading", { name: "Holds" }) }).locator("form");
  await form.getByLabel("Name").fill("Smith v. Jones");
  await form.getByLabel("Why").fill("claim");
  await form.getByRole("button", { name: "Place hold" }).click();
  await carla.locator(".mark.hold").waitFor();
  assert.equal((await callOf(carla, "has:hold")).remote.name, "Anna Müller");
  await carla.getByRole("link", { name: "All holds" }).click();
  const row = (page) => page.getByRole("row", { name: /Smith v. Jones/ });
  await row(carla).getByLabel("Why").fill("settled");
  await row(carla).getByRole("button", { name: "Ask for release" }).click();
  await row(carla).getByText("carla asked for its release").waitFor();
  assert.equal(await row(carla).getByRole("button").count(), 0, "the same person has no second button");
  const cem = await at("cem", "/holds");
  await row(cem).getByLabel("Why").fill("settled");
  await row(cem).getByRole("button", { name: "Release", exact: true }).click();
  await row(cem).getByText("released by cem").waitFor();
  assert.equal(await callOf(cem, "has:hold"), undefined);
  await leave(carla, cem);
});

test("policies are edited with a preview, and shortened by two people", async () => {
  const carla = await at("carla", "/policies");
  await carla.getByRole("button", { name: "Add a policy" }).click();
  await carla.getByLabel("Name").fill("Desk");
  await carla.getByLabel("Extensions").fill("201");
  await carla.getByLabel("Keep days").fill("1");
  await carla.getByLabel("Delete after days").fill("90");
  await carla.getByLabel("Why", { exact: true }).fill("rule 7");
  await carla.getByRole("button", { name: "Save" }).click();
  await carla.getByText("look at POST /policies/preview").waitFor();
  await carla.getByRole("button", { name: "Preview" }).click();
  await carla.locator("#preview").getByText("a second person").waitFor();
  assert.match(await carla.locator("#preview").textContent(), /Goes at once0 calls.*Earlier than now2 calls/);
  await carla.getByRole("button", { name: "Save" }).click();
  await carla.getByRole("button", { name: "Take back" }).waitFor();
  assert.equal(await carla.getByRole("button", { name: "Approve" }).count(), 0);
  const cem = await at("cem", "/policies");
  await cem.getByText("extension 201: kept 1 days at least, deleted after 90 days").waitFor();
  await cem.getByRole("button", { name: "Approve" }).click();
  await cem.getByText("Set by carla and cem").waitFor();
  assert.equal(await cem.getByLabel("Delete after days").inputValue(), "90");
  await cem.goto(`${base}/?q=5001`);
  await cem.locator(".calls .when a").click();
  await cem.getByText("by policy \"Desk\"; 7 days later it is gone").waitFor();
  await leave(carla, cem);
});

test("a call is deleted by two people, and is in no list from then on", async () => {
  const carla = await at("carla", "/?q=5002");
  await carla.locator(".calls .when a").click();
  const form = carla.locator("section", { has: carla.getByRole("heading", { name: "Deletion" }) }).locator("form");
  await form.getByLabel("Why").fill("wish");
  await form.getByRole("button", { name: "Ask for deletion" }).click();
  await form.getByText("the policy \"Desk\" keeps call").waitFor();
  // A day less is shorter: one takes the policy away, and what deletes nothing any more takes nobody else.
  await carla.goto(`${base}/policies`);
  await carla.getByLabel("Keep days").fill("0");
  await carla.getByLabel("Why", { exact: true }).fill("wish");
  await carla.getByRole("button", { name: "Preview" }).click();
  await carla.locator("#preview").getByText("a second person").waitFor();
  await carla.getByRole("button", { name: "Save" }).click();
  await carla.getByRole("button", { name: "Take back" }).waitFor();
  const cem = await at("cem", "/policies");
  await cem.getByRole("button", { name: "Approve" }).click();
  await until(cem, () => document.querySelector("[name=keep_days]").value === "0");
  await carla.goto(`${base}/?q=5002`);
  await carla.locator(".calls .when a").click();
  await form.getByLabel("Why").fill("wish");
  await form.getByRole("button", { name: "Ask for deletion" }).click();
  await carla.waitForURL(/\/deletions$/);
  assert.equal(await carla.getByRole("button", { name: "Approve" }).count(), 0);
  await cem.goto(`${base}/deletions`);
  await cem.getByRole("button", { name: "Approve" }).click();
  await cem.getByText("gone on").waitFor();
  assert.equal(await callOf(cem, "5002"), undefined);
  // Not too late yet.
  await cem.getByRole("button", { name: "Restore" }).click();
  await cem.getByText("restored by cem").waitFor();
  assert.equal((await callOf(cem, "5002")).remote.number, "+493023125002");
  await leave(carla, cem);
});

test("a call that goes on is listed and listened to, and leaves the list when it ends", async () => {
  const folder = path.join(WORK, "intake");
  const phone = spawn(path.join(BUILD, "recordctl"), ["simulate-phone", "--spawn", path.join(BUILD, "recordd"), "--dir", folder,
    "--script", "talk 25; stop", "--direction", "out", "--remote-number", "+493023125003", "--remote-name", "Lena Live",
    "--local-number", "201", "--call-id", "live"], { stdio: "ignore" });
  const ended = new Promise((done) => phone.on("exit", done));
  const page = await at("sue", "/live");
  const row = page.getByRole("row", { name: /Lena Live/ });
  await row.waitFor({ timeout: 15_000 });
  await row.getByRole("button", { name: "Listen in" }).click();
  await page.getByRole("region", { name: "Listening in" }).waitFor();
  const heard = (seconds) => page.waitForFunction((seconds) => {
    const [m, s] = (document.querySelector(".live-bar .clock").textContent || "0:0").split(":").map(Number);
    return m * 60 + s >= seconds;
  }, seconds, { timeout: 15_000 });
  await heard(2);
  const from = Date.now();
  await heard(5);
  assert.ok(Date.now() - from > 1500, "it comes as it is said, not at once");
  assert.equal(await page.locator(".live-bar .told").textContent(), "");
  await page.getByRole("button", { name: "Stop" }).click();
  assert.equal(await page.locator(".live-bar").count(), 0);
  const carla = await at("carla", "/audit?actor=sue");
  await carla.getByRole("cell", { name: "live", exact: true }).first().waitFor();
  await ended;
  await row.waitFor({ state: "detached", timeout: 15_000 });
  await until(page, async () => (await (await fetch("/api/v1/calls?q=5003")).json()).calls.length === 1);
  await leave(page, carla);
});

test("the log has who listened", async () => {
  const page = await person();
  await logIn(page, "carla");
  await page.goto(`${base}/audit?actor=sue`);
  await page.getByRole("cell", { name: "play", exact: true }).first().waitFor();
  await page.context().close();
});

test("it fits a phone, in the dark, and by keyboard alone", async () => {
  const page = await person({ viewport: { width: 390, height: 800 }, colorScheme: "dark" });
  await logIn(page, "sue");
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(await wide() <= 390, `${await wide()}`);
  const back = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(back, "rgb(18, 23, 26)");
  await page.keyboard.press("/");
  await page.keyboard.type("otto");
  await page.keyboard.press("Enter");
  await until(page, () => document.querySelectorAll("table.calls tbody tr").length === 1);
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.matches(".calls .play"))) break;
  }
  await page.keyboard.press("Enter");
  await until(page, () => document.querySelector("call-player audio").currentTime > 0.3);
  assert.ok(await wide() <= 390, `${await wide()}`);
  await page.locator(".calls .when a").click();
  await page.getByRole("heading", { name: "Notes" }).waitFor();
  assert.ok(await wide() <= 390, `${await wide()}`);
  assert.deepEqual(page.wrong, []);
  await page.context().close();
});

test("pages of decisions fit a phone, too", async () => {
  const page = await person({ viewport: { width: 390, height: 800 } });
  await logIn(page, "carla");
  for (const where of ["/policies", "/holds", "/deletions", "/exports", "/audit"]) {
    await page.goto(`${base}${where}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 390, `${where} ${wide}`);
  }
  await leave(page);
});

test("nothing went wrong in the window, and logging out ends it", async () => {
  assert.deepEqual(supervisor.wrong, []);
  await supervisor.getByRole("button", { name: "Log out" }).click();
  await supervisor.waitForURL(/\/login/);
  await supervisor.goto(`${base}/`);
  assert.match(supervisor.url(), /\/login/);
});
