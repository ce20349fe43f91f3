// Makes the pictures of the live pages that the README and docs show:
//   npm run screenshots
// It needs a Chromium, which `npm test` installs.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { ensure, findProgram } from './ensure-packages.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const barter = join(root, 'bin', 'barter.cjs');
const children = [];

/** Starts a command; returns the first match of `pattern` in a line of its output. */
async function start(args, stream, pattern) {
  const child = spawn(process.execPath, [barter, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  child[stream === 'stdout' ? 'stderr' : 'stdout'].resume();
  for await (const line of createInterface({ input: child[stream] })) {
    const found = pattern.exec(line);
    if (found !== null) {
      child[stream].resume();
      return found[1];
    }
  }
  throw new Error(`barter ${args.join(' ')} ended without ${pattern}`);
}

/** Runs a command to its end. */
function run(...args) {
  const child = spawn(process.execPath, [barter, ...args], { cwd: root, stdio: 'ignore' });
  return new Promise((resolve) => child.once('close', resolve));
}

async function shoot(page, name) {
  const path = join(root, 'docs', name);
  await page.screenshot({ path });
  console.log(`docs/${name}: ${(statSync(path).size / 1024).toFixed(0)} KiB`);
}

/** A buffer is lent to a process, and the page lends one by hand and takes it back by a reset. */
async function livePage(browser) {
  const args = ['serve', 'examples/two-peers.yaml', '--socket-dir', folder, '--http', '0', '--control', '--json'];
  const url = await start(args, 'stdout', /"http":"([^"]+)"/);
  const page = await browser.newPage({ viewport: { width: 1280, height: 1150 }, colorScheme: 'light' });
  await page.goto(url);
  await page.locator('#window').selectOption('10');
  await run('import', join(folder, 'lender.sock'), '--revokes', '2');
  const press = (name) => page.getByRole('button', { name, exact: true }).first().click();
  await press('Export a slice of lender');
  // The page closes its own buffers only, so this names the one that it has just exported.
  const own = page.getByRole('button', { name: /^Close buffer \d+$/ });
  const label = await own.getAttribute('aria-label');
  await press(label.replace('Close', 'Import'));
  await page.locator('#machine', { hasText: 'mapped by borrower' }).waitFor();
  await press('FLR: lender');
  await page
    .locator('#buffers svg text', { hasText: /^let go after [\d.]+ m?s$/ })
    .first()
    .waitFor();
  await page.waitForTimeout(1200);
  await shoot(page, 'live-page.png');
  await page.close();
}

/** A known bug that is put back, found, and drawn. */
async function searchPage(browser) {
  const replay = join(folder, 'bug.replay.json');
  const args = ['explore', 'revoke-vs-release', '--mutant', 'R8-release-under-the-lock'];
  const url = await start([...args, '--replay-file', replay, '--http', '0'], 'stderr', /live at (\S+)/);
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: 'dark' });
  await page.goto(url);
  await page.frameLocator('#bug iframe').locator('svg .step').first().waitFor();
  await page.waitForTimeout(500);
  await shoot(page, 'search-page.png');
  await page.close();
}

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];
const findChromium = () => NAMES.map(findProgram).find((path) => path !== null);
if (findChromium() === undefined && !ensure('chromium', ['chromium'])) process.exit(1);
const folder = mkdtempSync(join(tmpdir(), 'barter-screenshots-'));
const browser = await chromium.launch({ executablePath: findChromium(), chromiumSandbox: false });
try {
  await livePage(browser);
  await searchPage(browser);
} finally {
  await browser.close();
  for (const child of children) child.kill();
  rmSync(folder, { recursive: true, force: true });
}
