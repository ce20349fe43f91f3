import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { test } from 'node:test';
import { isOwnHost, parseHttpAddress, urlHost } from '../../src/web/address.ts';

test('an address is a port, or a host and a port; the loopback interface unless it names another', () => {
  assert.deepEqual(parseHttpAddress('8080'), { host: '127.0.0.1', port: 8080 });
  assert.deepEqual(parseHttpAddress('0'), { host: '127.0.0.1', port: 0 });
  assert.deepEqual(parseHttpAddress('0.0.0.0:80'), { host: '0.0.0.0', port: 80 });
  assert.deepEqual(parseHttpAddress('[::1]:80'), { host: '::1', port: 80 });
  assert.deepEqual(parseHttpAddress('box.example:9000'), { host: 'box.example', port: 9000 });
  for (const text of ['', 'x', ':80', '80:', '65536', '::1:80', '127.0.0.1', 'a b:80', '-1', '80/x']) {
    assert.equal(parseHttpAddress(text), null, text);
  }
  assert.deepEqual([urlHost('::1'), urlHost('127.0.0.1')], ['[::1]', '127.0.0.1']);
});

test('a Host is an address or a name of this machine, with the port; a rebound name is neither', () => {
  const address = { host: '127.0.0.1', port: 8080 };
  const own = ['127.0.0.1:8080', 'localhost:8080', '[::1]:8080', '192.0.2.7:8080', `${hostname()}:8080`];
  for (const host of own) assert.ok(isOwnHost(host, address), host);
  const foreign = [undefined, '', 'evil.example:8080', '127.0.0.1', '127.0.0.1:8081', 'localhost.evil.example:8080'];
  for (const host of foreign) assert.ok(!isOwnHost(host, address), host);
  assert.ok(isOwnHost('127.0.0.1', { host: '127.0.0.1', port: 80 }), 'port 80 goes without saying');
});
