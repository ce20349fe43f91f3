/** The metrics of a served machine, read by a parser of Prometheus' text format. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, test } from 'node:test';
import { VFIO_USER_REGION_READ, vfio_user_region_access } from '../../src/abi/vfio-user.ts';
import { serveMachine } from '../../src/machine/served.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { BUCKETS_S } from '../../src/vfio-user/monitor/counters.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { Metrics } from '../../src/web/metrics.ts';
import { enableMemory, exportBuffer } from '../vfio-user/lent.ts';
import { message, RawClient } from '../vfio-user/raw-client.ts';
import { MACHINE, TestServer } from '../vfio-user/served.ts';

interface Family {
  name: string;
  help: string;
  type: string;
  metrics: {
    labels?: Record<string, string>;
    value?: string;
  }[];
}

const parse = createRequire(import.meta.url)('parse-prometheus-text-format') as (text: string) => Family[];

const folder = new TestServer().folder;
const served = await serveMachine(MACHINE, { socketDir: folder, watch: { control: false } });
after(() => served.stop());

test('messages, errors, buffers and revokes are counted, under names that follow the conventions', async () => {
  const metrics = new Metrics(
    served.watcher!,
    MACHINE.devices.map(({ name }) => name),
  );
  const client = new VfioUserClient(served.devices[0].socket);
  enableMemory(client, true);
  const buffer = exportBuffer(client);
  assert.throws(() => exportBuffer(client, { region: 5 }), { code: 'ENODEV' });
  enableMemory(client, false);
  // One byte of data more than a message may carry, and a message that is too long.
  const raw = RawClient.ready(served.devices[1].socket);
  const tooMuch = vfio_user_region_access.encode({ offset: 0n, region: 0, count: LIMITS.maxDataXferBytes + 1 });
  assert.equal(raw.outcome({ command: VFIO_USER_REGION_READ }, tooMuch), 'EINVAL');
  raw.send(message({ command: VFIO_USER_REGION_READ, size: LIMITS.maxMessageBytes + 1 }));
  raw.assertDropped();
  raw.close();
  const { type, text } = await metrics.text();
  assert.match(type, /^text\/plain; version=0\.0\.4/);
  const families = new Map(parse(text).map((family) => [family.name, family]));
  const one = (name: string, labels: Record<string, string>) =>
    families
      .get(name)!
      .metrics.find((each) => Object.entries(labels).every(([key, value]) => each.labels?.[key] === value));
  const device = 'lender';
  assert.equal(one('barter_buffers_exported_total', { device })?.value, '1');
  assert.equal(one('barter_message_errors_total', { device, command: 'DEVICE_FEATURE' })?.value, '1');
  assert.equal(one('barter_errnos_total', { device, errno: 'ENODEV' })?.value, '1');
  assert.equal(one('barter_limit_hits_total', { limit: 'maxDataXferBytes' })?.value, '1');
  assert.equal(one('barter_limit_hits_total', { limit: 'maxMessageBytes' })?.value, '1');
  assert.equal(one('barter_limit_hits_total', { limit: 'maxBorrowed' })?.value, '0');
  assert.equal(one('barter_client_connected', { device })?.value, '1');
  assert.equal(one('barter_buffers', { device, state: 'revoked' })?.value, '1');
  // The parser takes all histograms of a family for one, so their samples are read from the text.
  const sample = (line: string): number =>
    Number(
      text
        .split('\n')
        .find((each) => each.startsWith(`${line} `))
        ?.slice(line.length),
    );
  const revoke = 'device="lender",cause="memory bit"';
  assert.equal(sample(`barter_revoke_duration_seconds_count{${revoke}}`), 1);
  assert.ok(sample(`barter_revoke_duration_seconds_sum{${revoke}}`) > 0);
  const write = 'device="lender",command="REGION_WRITE"';
  const writes = sample(`barter_messages_total{${write}}`);
  const below = BUCKETS_S.map((bound) => sample(`barter_message_duration_seconds_bucket{${write},le="${bound}"}`));
  for (const [i, count] of below.entries()) assert.ok(count >= (below[i - 1] ?? 0), 'buckets are cumulative');
  assert.equal(sample(`barter_message_duration_seconds_bucket{${write},le="+Inf"}`), writes);
  assert.equal(sample(`barter_message_duration_seconds_count{${write}}`), writes);
  assert.ok(writes > 0);

  for (const { name, type: kind, help } of families.values()) {
    assert.match(name, /^(barter|process)_[a-z_]+$/);
    assert.equal(kind === 'COUNTER', name.endsWith('_total'), `${name} is a ${kind}`);
    assert.match(help, /\.$/);
  }
  buffer.close();
  client.close();
});

test("the dashboard and the docs name metrics that exist, and the docs' table has all of them", async () => {
  const { text } = await new Metrics(
    served.watcher!,
    MACHINE.devices.map(({ name }) => name),
  ).text();
  const existing = parse(text)
    .map(({ name }) => name)
    .filter((name) => name.startsWith('barter_'))
    .sort();
  const namesIn = (file: string) =>
    new Set([...readFileSync(file, 'utf8').matchAll(/\bbarter_[a-z_]+[a-z]/g)].map(([name]) => name));
  assert.deepEqual([...namesIn('docs/operating.md')].sort(), existing);
  for (const name of namesIn('docs/grafana/barter.json')) {
    assert.ok(existing.includes(name.replace(/_(bucket|sum|count)$/, '')), name);
  }
});
