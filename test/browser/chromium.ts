/**
 * A headless Chromium for the tests of pages. The browser is the distribution's, which `npm test` installs
 * (scripts/ensure-packages.mjs); playwright-core drives it and brings no browser of its own.
 */
import assert from 'node:assert/strict';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { after } from 'node:test';
import { type Browser, chromium, type Page } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

/** The browser's program on this machine, or null. */
function findChromium(): string | null {
  const folders = (process.env.PATH ?? '').split(delimiter);
  for (const path of NAMES.flatMap((name) => folders.map((folder) => join(folder, name)))) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Try the next one.
    }
  }
  return null;
}

const program = findChromium();
/** For the `skip` of a test. CI must have a browser; elsewhere the test skips with a message. */
export const skip: string | false =
  program === null && process.env.CI === undefined ? 'no Chromium on this machine' : false;

let browser: Promise<Browser> | undefined;
after(async () => (await browser)?.close());

/** A page, and what went wrong in it. */
export interface WatchedPage {
  page: Page;
  /** Exceptions of scripts, and errors that the page logged. */
  errors: string[];
  /** The addresses of all requests by the page. */
  requests: string[];
}

/** A new page in the file's one browser, 1280 by 900 unless said otherwise. The page has no cookies or history. */
export async function openPage(url: string, viewport = { width: 1280, height: 900 }): Promise<WatchedPage> {
  assert.ok(program !== null, 'Chromium is missing; apt-get install chromium');
  // The sandbox needs user namespaces, which containers and root do not have.
  browser ??= chromium.launch({ executablePath: program, chromiumSandbox: false });
  const page = await (await browser).newPage({ viewport });
  const errors: string[] = [];
  const requests: string[] = [];
  page.on('pageerror', (error) => errors.push(error.stack ?? error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(`${message.text()} (${message.location().url})`);
  });
  page.on('request', (request) => requests.push(request.url()));
  await page.goto(url);
  return { page, errors, requests };
}
