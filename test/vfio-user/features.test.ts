/** Interrupts of every index, and the features other than migration, over a socket. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} from '../../src/abi/vfio.ts';
import { createEventfd, readEventfd } from '../../src/linux/eventfd.ts';
import { parseMachine } from '../../src/machine/load.ts';
import type { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { connectWhenFree, TestServer } from './served.ts';

/** A physical function with SR-IOV, as `barter capture` writes it. */
function withSriov(): string {
  const config = Buffer.alloc(4096);
  config.writeUInt32LE(0x10fb_8086, 0);
  config.writeUInt32LE(0x0200_0001, 8);
  config.writeUInt32LE(0x0001_0010, 0x100);
  return (config.toString('hex').match(/.{32}/g) ?? []).map((line) => `        ${line}`).join('\n');
}

const MACHINE = parseMachine(
  `
machine: features
ports: [{ name: root0, kind: root }, { name: root1, kind: root }]
devices:
  - name: msi
    model: memory
    port: root0
    bars: [{ index: 0, kind: mem32, size: 4K }]
    capabilities: { msi: { vectors: 32 }, pm: {}, express: { flr: true } }
  - name: pf
    model: captured
    port: root1
    bars: [{ index: 0, kind: mem32, size: 4K }]
    config: |
${withSriov()}
`,
  'features.yaml',
);

const server = new TestServer();
await server.start(MACHINE);
after(() => server.stop());

const GET = 1 << 16;
const SET = 1 << 17;
const PROBE = 1 << 18;
const feature = (client: VfioUserClient, flags: number, data: Uint8Array = new Uint8Array(0), fds: number[] = []) =>
  client.feature(Buffer.concat([Buffer.from(new Uint32Array([8 + data.length, flags]).buffer), data]), fds);

test('MSI: all 32 vectors, in more than one message; ERR and REQ beside it; one kind at a time', async () => {
  const client = await connectWhenFree(server.path('msi'));
  const events = Array.from({ length: 32 }, (_, i) => createEventfd(`vector ${i}`));
  const counts = () => events.map((event) => readEventfd(event.fd));
  client.setIrqs(
    0x24,
    VFIO_PCI_MSI_IRQ_INDEX,
    0,
    32,
    undefined,
    events.map((event) => event.fd),
  );
  client.setIrqs(0x21, VFIO_PCI_MSI_IRQ_INDEX, 0, 32);
  assert.deepEqual(counts(), new Array(32).fill(1));
  const bools = Uint8Array.from({ length: 32 }, (_, i) => i % 2);
  client.setIrqs(0x22, VFIO_PCI_MSI_IRQ_INDEX, 0, 32, bools);
  assert.deepEqual(counts(), [...bools]);
  client.setIrqs(0x24, VFIO_PCI_MSI_IRQ_INDEX, 5, 1, undefined, [events[7].fd]);
  client.setIrqs(0x21, VFIO_PCI_MSI_IRQ_INDEX, 5, 1);
  assert.equal(counts()[7], 1, 'vector 5 has another eventfd');
  assert.throws(() => client.setIrqs(0x24, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, undefined, [events[0].fd]), /EINVAL/);
  for (const index of [VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX]) {
    assert.deepEqual(client.irqInfo(index).count, 1);
    assert.throws(() => client.setIrqs(0x21, index, 0, 1), /EINVAL/, 'no eventfd yet');
    client.setIrqs(0x24, index, 0, 1, undefined, [events[index].fd]);
    client.setIrqs(0x21, index, 0, 1);
    client.setIrqs(0x22, index, 0, 1, Uint8Array.of(1));
    client.setIrqs(0x22, index, 0, 1, Uint8Array.of(0));
    assert.equal(counts()[index], 2);
    client.setIrqs(0x21, index, 0, 0);
    assert.throws(() => client.setIrqs(0x21, index, 0, 1), /EINVAL/, 'taken away');
    for (const action of [0x08, 0x10]) assert.throws(() => client.setIrqs(0x01 | action, index, 0, 1), /ENOTTY/);
  }
  client.setIrqs(0x21, VFIO_PCI_MSI_IRQ_INDEX, 0, 0);
  assert.throws(() => client.setIrqs(0x21, VFIO_PCI_MSI_IRQ_INDEX, 0, 1), /EINVAL/, 'disabled');
  for (const event of events) event.close();
  client.close();
  await server.assertNothingLeft();
});

test('VF token: SET of 16 bytes on a function with SR-IOV, probed; ENOTTY on all others', async () => {
  const pf = await connectWhenFree(server.path('pf'));
  feature(pf, SET | PROBE);
  assert.throws(() => feature(pf, GET | PROBE), /EINVAL/);
  feature(pf, SET, Buffer.alloc(16, 7));
  assert.throws(() => feature(pf, SET, Buffer.alloc(15)), /EINVAL/);
  assert.throws(() => feature(pf, GET, Buffer.alloc(16)), /EINVAL/);
  pf.close();
  const other = await connectWhenFree(server.path('msi'));
  assert.throws(() => feature(other, SET | PROBE), /ENOTTY/);
  other.close();
  await server.assertNothingLeft();
});

test('low power: entry takes the memory, an access or the exit gives it back, the eventfd says that it woke', async () => {
  const client = await connectWhenFree(server.path('msi'));
  const wakeup = createEventfd('wakeup');
  const argument = (fd: number) => Buffer.from(new Int32Array([fd, 0]).buffer);
  const read = () => client.readRegion(0, 0, Buffer.alloc(4));
  for (const number of [3, 4, 5]) {
    feature(client, SET | PROBE | number);
    assert.throws(() => feature(client, GET | PROBE | number), /EINVAL/);
  }
  feature(client, SET | 3);
  assert.throws(() => feature(client, SET | 3), /EINVAL/, 'asleep already');
  feature(client, SET | 5);
  read();
  feature(client, SET | 5);
  assert.throws(() => feature(client, SET | 4, argument(1), [wakeup.fd]), /EBADF/, 'a descriptor that did not come');
  assert.throws(() => feature(client, SET | 4, argument(-1), [wakeup.fd]), /EINVAL/);
  feature(client, SET | 4, argument(0), [wakeup.fd]);
  assert.equal(readEventfd(wakeup.fd), 0);
  read();
  assert.equal(readEventfd(wakeup.fd), 1, 'the access woke it');
  read();
  assert.equal(readEventfd(wakeup.fd), 0);
  wakeup.close();
  client.close();
  await server.assertNothingLeft();
});
