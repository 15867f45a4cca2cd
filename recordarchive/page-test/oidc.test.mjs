// Chromium logs in by a certified provider of OpenID Connect, which runs in this process.
// Environment: BUILD, a folder with recordarchive; WORK, a folder; MODULES, the folder of npm's modules.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

const { BUILD, WORK, MODULES } = process.env;
const require = createRequire(path.join(MODULES, "x.js"));
const { chromium } = require("playwright-core");
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const SECRET = "a secret: of 30 % & more / +";
const groups = { anna: ["leads"], otto: ["staff"] };
const folder = path.join(WORK, "oidc");
const config = path.join(folder, "archive.toml");
const secret = path.join(folder, "secret");
const program = path.join(BUILD, "recordarchive");
const common = ["--config", config, "--data", path.join(folder, "data")];
let archive, base, browser, provider;

const listening = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

before(async () => {
  mkdirSync(folder, { recursive: true });
  // A port that nobody has: both have to know the archive's address before it starts.
  const place = createServer();
  const port = await listening(place);
  await new Promise((done) => place.close(done));
  base = `http://127.0.0.1:${port}`;
  let answer;
  provider = createServer((request, response) => answer(request, response));
  const issuer = `http://127.0.0.1:${await listening(provider)}`;
  answer = new Provider(issuer, {
    clients: [{ client_id: "archive", client_secret: SECRET, redirect_uris: [`${base}/login/oidc/callback`],
      response_types: ["code"], grant_types: ["authorization_code"] }],
    pkce: { required: () => true },
    // Claims stand in the ID token, as Keycloak and Entra ID put them there.
    conformIdTokenClaims: false,
    claims: { openid: ["sub", "groups"], profile: ["name", "preferred_username"] },
    findAccount: (_, sub) => ({ accountId: sub,
      claims: () => ({ sub, groups: groups[sub] ?? [], name: `${sub} of the office`, preferred_username: sub }) }),
  }).callback();
  writeFileSync(secret, SECRET);
  chmodSync(secret, 0o600);
  writeFileSync(config, `[web]\nlisten = "127.0.0.1:${port}"\npublic_url = "${base}"\n[auth.oidc]\nissuer = "${issuer}"\n` +
    `client_id = "archive"\nclient_secret_file = "${secret}"\nroles = { leads = "supervisor", boss = "admin" }\n`);
  archive = spawn(program, [...common, "serve"], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: archive.stdout });
  for await (const line of lines) if (/listens on/.test(line)) break;
  archive.stdout.resume();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
});

after(async () => {
  await browser?.close();
  archive?.kill("SIGTERM");
  provider?.close();
  provider?.closeAllConnections();
});

// From the button through the provider's own pages.
async function logIn(page, name) {
  await page.getByRole("link", { name: "Log in with 127.0.0.1" }).click();
  await page.getByPlaceholder("Enter any login").fill(name);
  await page.getByPlaceholder("and password").fill("x");
  await page.getByRole("button", { name: "Sign-in" }).click();
  await page.getByRole("button", { name: "Continue" }).click();
}

async function window() {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(10_000);
  return page;
}

// A command of the archive: status and output. The provider in this process has to answer meanwhile.
const run = (...words) => new Promise((done) => {
  execFile(program, [...common, ...words], { timeout: 20_000 },
    (error, stdout, stderr) => done({ status: error ? error.code : 0, stdout, stderr }));
});

test("doctor says whether the provider answers, and a secret that others can read is refused", async () => {
  assert.match((await run("doctor")).stdout, /ok {5}log-in by http:\S+: 1 key/);
  chmodSync(secret, 0o640);
  assert.match((await run("doctor")).stdout, /WRONG {2}log-in by .*chmod 600/);
  const refused = await run("serve", "--listen", "127.0.0.1:0");
  assert.equal(refused.status, 2, refused.stderr);
  assert.match(refused.stderr, /chmod 600/);
  chmodSync(secret, 0o600);
});

test("a person of a group with a role comes to the page that they wanted", async () => {
  const page = await window();
  await page.goto(`${base}/?q=5001`);
  assert.match(page.url(), /\/login\?next=/);
  await logIn(page, "anna");
  await page.getByRole("button", { name: "Log out" }).waitFor();
  assert.equal(page.url(), `${base}/?q=5001`);
  await page.getByText("anna of the office").waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("link", { name: "Log in with 127.0.0.1" }).waitFor();
  assert.match((await run("user", "list")).stdout, /^anna +supervisor .*anna of the office of http/m);
  const token = await run("token", "create", "--user", "anna", "--name", "x");
  assert.equal(token.status, 1);
  assert.match(token.stderr, /which alone lets them in/);
});

test("a person of no such group is told which there are", async () => {
  const page = await window();
  await page.goto(`${base}/login`);
  await logIn(page, "otto");
  await page.getByText("none of your groups has a role here").waitFor();
  await page.getByText("boss, leads").waitFor();
  await page.getByRole("link", { name: "Back to the log-in" }).click();
  await page.getByRole("link", { name: "Log in with 127.0.0.1" }).waitFor();
});

test("a refusal at the provider is told", async () => {
  const page = await window();
  await page.goto(`${base}/login`);
  await page.getByRole("link", { name: "Log in with 127.0.0.1" }).click();
  await page.getByRole("link", { name: "Cancel" }).click();
  await page.getByText("access_denied").waitFor();
});
