/** Builds the site as `npm run docs` does, follows every link in its files, and opens it in a headless Chromium. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, posix } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openPage, skip } from './chromium.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const site = join(root, 'site/dist');
const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

/** The file of an address as a server of static files finds it, or null. */
function fileOf(path: string): string | null {
  const file = join(site, path.endsWith('/') ? `${path}index.html` : path);
  return existsSync(file) && statSync(file).isFile() ? file : null;
}

const server: Server = createServer((request, response) => {
  const file = fileOf(decodeURIComponent(new URL(request.url!, 'http://site').pathname));
  if (file === null) response.writeHead(404).end();
  else response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'image/png' }).end(readFileSync(file));
});
let origin = '';

before(async () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'scripts/docs.mjs')], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, `${stdout}${stderr}`);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => server.close());

/** All pages, by their addresses. */
function pages(): Map<string, string> {
  const files = readdirSync(site, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.html'));
  return new Map(files.map((name) => [`/${name}`, readFileSync(join(site, name), 'utf8')]));
}

test('every link of every page leads to a page of the site, and to an anchor that it has', () => {
  const all = pages();
  const idsOf = (html: string) => new Set([...html.matchAll(/ id="([^"]+)"/g)].map((match) => match[1]));
  const ids = new Map([...all].map(([path, html]) => [path, idsOf(html)]));
  const dead = new Set<string>();
  let followed = 0;
  for (const [path, html] of all) {
    for (const [, address] of html.matchAll(/ (?:href|src)="([^"]+)"/g)) {
      if (/^(https?|data|mailto):/.test(address)) continue;
      const [target, anchor = ''] = address.replaceAll('&amp;', '&').split('#');
      const full = target === '' ? path : posix.resolve(posix.dirname(path), decodeURIComponent(target));
      const file = target.endsWith('/') ? posix.join(full, 'index.html') : full;
      followed++;
      if (fileOf(file) === null) dead.add(`${path}: ${address}`);
      else if (anchor !== '' && !ids.get(file)!.has(decodeURIComponent(anchor))) dead.add(`${path}: ${address}`);
    }
  }
  assert.ok(all.size > 100 && followed > 10_000, `${all.size} pages, ${followed} links`);
  assert.deepEqual([...dead], []);
});

test('search finds a page, a link leads on, and nothing comes from elsewhere', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { page, errors, requests } = await openPage(`${origin}/`);
  t.after(() => page.close());
  assert.match((await page.textContent('h1'))!, /^Barter/);
  // The page's script takes the keys from here on.
  await page.waitForFunction("'__vue_app__' in document.getElementById('app')");

  await page.locator('#local-search button').click();
  await page.fill('.VPLocalSearchBox input', 'revoke path');
  await page.locator('.VPLocalSearchBox .result', { hasText: 'Taking it back' }).first().click();
  await page.waitForURL(`${origin}/docs/concepts.html#taking-it-back`);
  assert.ok((await page.locator('.mermaid svg').count()) >= 2, 'the diagrams are drawn');

  await page.locator('main a', { hasText: 'architecture.md' }).first().click();
  await page.waitForURL(`${origin}/docs/architecture.html*`);
  await page.locator('nav a', { hasText: 'API' }).click();
  await page.locator('main a', { hasText: 'barter/machine' }).click();
  await page.locator('main a', { hasText: /^openMachine$/ }).click();
  await page.locator('h1', { hasText: 'openMachine' }).waitFor();

  await page.goto(`${origin}/docs/facts.html`);
  await page.locator('main a', { hasText: '01-feature-envelope' }).click();
  await page.locator('pre', { hasText: 'tasks:' }).waitFor();

  assert.deepEqual(errors, []);
  assert.deepEqual(
    requests.filter((url) => !url.startsWith(origin) && !url.startsWith('data:')),
    [],
  );
});
