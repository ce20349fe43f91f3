import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Board } from '../../src/web/board.ts';
import { PageServer } from '../../src/web/page-server.ts';
import { MAX_VIEWERS } from '../../src/web/viewers.ts';

const ADDRESS = { host: '127.0.0.1', port: 0 };

interface Answer {
  status: number;
  body: string;
}

/** One request with exactly these headers: fetch does not let a program choose its Host. */
function ask(url: string, headers: Record<string, string> = {}, body: string | null = null): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: body === null ? 'GET' : 'POST', headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode!, body: text }));
    });
    sent.on('error', reject);
    sent.end(body ?? undefined);
  });
}

async function started(t: TestContext, control?: (command: unknown) => Promise<void>, headersMs = 5000) {
  const board = new Board();
  const counts: number[] = [];
  const options = { address: ADDRESS, headersMs, board, onViewers: (count: number) => void counts.push(count) };
  const page = await PageServer.start(control === undefined ? options : { ...options, control });
  t.after(() => page.close());
  const url = new URL(page.url);
  return { board, counts, page, url: page.url, origin: url.origin, host: url.host };
}

/** A raw connection that has asked for the stream of events. */
async function viewer(host: string): Promise<Socket> {
  const socket = connect(Number(host.split(':')[1]), '127.0.0.1');
  await once(socket, 'connect');
  socket.write(`GET /events HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  return socket;
}

const until = async (holds: () => boolean, what: string): Promise<void> => {
  for (const deadline = performance.now() + 20_000; !holds(); await sleep(5)) {
    assert.ok(performance.now() < deadline, what);
  }
};

test('a page of another Host or Origin gets 403, also from the stream', async (t) => {
  const { url, host } = await started(t);
  assert.equal((await ask(`${url}page.js`)).status, 200);
  assert.equal((await ask(`${url}page.js`, { origin: `http://${host}` })).status, 200);
  for (const path of ['', 'page.js', 'events', 'metrics', 'control']) {
    assert.equal((await ask(url + path, { host: 'evil.example' })).status, 403, path);
    assert.equal((await ask(url + path, { host: `evil.example:${host.split(':')[1]}` })).status, 403, path);
    assert.equal((await ask(url + path, { origin: 'http://evil.example' })).status, 403, path);
    assert.equal((await ask(url + path, { origin: 'null' })).status, 403, path);
  }
});

test('only files of the page are served', async (t) => {
  const { url, origin } = await started(t);
  assert.match((await ask(url)).body, /<title>Barter<\/title>/);
  for (const path of ['/../page-server.ts', '/%2e%2e/page-server.ts', '/etc/passwd', '/nothing.js']) {
    assert.equal((await ask(origin + path)).status, 404, path);
  }
  assert.equal((await ask(`${url}control`, { 'content-type': 'application/json', origin }, '{}')).status, 403);
});

test('with commands every path wants the token, and a command the Origin and the type', async (t) => {
  const commands: unknown[] = [];
  const { url, origin } = await started(t, async (command) => {
    commands.push(command);
    if (command === 'no') throw new Error('ENODEV: no');
  });
  for (const path of ['', 'page.js', 'events', 'metrics', 'control', 'wrong/', 'wrong/control']) {
    assert.equal((await ask(`${origin}/${path}`)).status, 403, path);
    assert.equal(
      (await ask(`${origin}/${path}`, { 'content-type': 'application/json', origin }, '1')).status,
      403,
      path,
    );
  }
  // A handshake for a WebSocket is a request like any other: the page has none, and every check comes first.
  const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };
  assert.equal((await ask(`${origin}/control`, upgrade)).status, 403, 'no token');
  assert.equal((await ask(`${url}control`, { ...upgrade, origin: 'http://evil.example' })).status, 403);
  assert.equal((await ask(`${url}control`, { ...upgrade, host: 'evil.example' })).status, 403);
  assert.equal((await ask(`${url}control`, { ...upgrade, origin })).status, 405);
  assert.equal((await ask(`${url}events`, { host: 'evil.example' })).status, 403);
  assert.equal((await ask(`${url}events`, { origin: 'http://evil.example' })).status, 403);
  const json = { 'content-type': 'application/json' };
  assert.equal((await ask(`${url}control`, { ...json, origin: 'http://evil.example' }, '1')).status, 403);
  assert.equal((await ask(`${url}control`, json, '1')).status, 403, 'no Origin');
  assert.equal((await ask(`${url}control`, { 'content-type': 'text/plain', origin }, '1')).status, 415);
  assert.equal((await ask(`${url}control`, { ...json, origin })).status, 405);
  assert.equal((await ask(`${url}control`, { ...json, origin }, `"${'x'.repeat(5000)}"`)).status, 413);
  assert.equal((await ask(`${url}control`, { ...json, origin }, '{')).status, 422);
  assert.deepEqual(commands, []);
  assert.equal((await ask(`${url}control`, { ...json, origin }, '{"op":"x"}')).status, 200);
  const refused = await ask(`${url}control`, { ...json, origin }, '"no"');
  assert.deepEqual([refused.status, JSON.parse(refused.body)], [422, { ok: false, error: 'ENODEV: no' }]);
  assert.deepEqual(commands, [{ op: 'x' }, 'no']);
});

test('a hundred pages get what happens; beyond the limit one is turned away', async (t) => {
  const { board, page, host, counts } = await started(t);
  const sockets = await Promise.all(Array.from({ length: 100 }, () => viewer(host)));
  t.after(() => sockets.forEach((socket) => void socket.destroy()));
  const texts = sockets.map(() => '');
  for (const [i, socket] of sockets.entries()) {
    socket.setEncoding('utf8').on('data', (text: string) => {
      texts[i] += text;
    });
  }
  await until(() => page.viewers.size === 100, 'all are viewers');
  board.set('word', 'hello');
  page.viewers.send();
  await until(() => texts.every((text) => text.includes('"word":"hello"')), 'all have heard');
  sockets.push(...(await Promise.all(Array.from({ length: MAX_VIEWERS - 100 + 1 }, () => viewer(host)))));
  await until(() => page.viewers.size === MAX_VIEWERS, 'the limit is reached');
  assert.equal((await ask(`http://${host}/events`)).status, 503);
  for (const socket of sockets) socket.destroy();
  await until(() => page.viewers.size === 0, 'all are gone');
  assert.equal(counts.at(-1), 0);
});

test('a viewer that never reads misses frames, delays nobody, and gets the whole when it reads again', async (t) => {
  const { board, page, host } = await started(t);
  const slow = await viewer(host);
  slow.pause();
  const quick = await viewer(host);
  t.after(() => [slow, quick].forEach((socket) => void socket.destroy()));
  let heard = '';
  quick.setEncoding('utf8').on('data', (text: string) => {
    heard = (heard + text).slice(-200);
  });
  await until(() => page.viewers.size === 2, 'both are viewers');
  const before = process.memoryUsage.rss();
  for (let i = 0; i < 300; i++) {
    board.set('text', `${i} ${'x'.repeat(200_000)} end ${i}`);
    page.viewers.send();
    await sleep(0);
  }
  await until(() => heard.includes('end 299'), 'the quick one has the last frame');
  assert.ok(process.memoryUsage.rss() - before < 50 << 20, '60 MB are not kept for a viewer that does not read');
  let late = '';
  slow.setEncoding('utf8').on('data', (text: string) => {
    late = (late + text).slice(-400_000);
  });
  slow.resume();
  await until(() => {
    board.set('tick', performance.now());
    page.viewers.send();
    return /event: missed\ndata: \d+\n[\s\S]*event: whole\n/.test(late) && late.includes('end 299');
  }, 'the slow one learns what it missed');
});

test('requests that are never complete take no place for long, and others are answered meanwhile', async (t) => {
  const { url, host } = await started(t, undefined, 500);
  const halves = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const socket = connect(Number(host.split(':')[1]), '127.0.0.1');
      await once(socket, 'connect');
      socket.write('GET / HTTP/1.1\r\nHost: ');
      socket.on('error', () => {});
      socket.resume();
      return socket;
    }),
  );
  after(() => halves.forEach((socket) => void socket.destroy()));
  assert.equal((await ask(url)).status, 200);
  await Promise.all(halves.map((socket) => (socket.closed ? null : once(socket, 'close'))));
});
