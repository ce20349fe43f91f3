import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { test } from 'node:test';
import { F_GETFL, F_SETFL, O_NONBLOCK } from '../../src/abi/fcntl.ts';
import {
  IOAT_ATTNSTATUS_OFFSET,
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_DESC_CTL_INT_EN,
  IOAT_DESC_CTL_NULL,
  IOAT_INTRCTRL_MASTER_INT_EN,
  IOAT_INTRCTRL_OFFSET,
  ioat_dma_descriptor,
} from '../../src/abi/ioat.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
  vfio_irq_set,
} from '../../src/abi/vfio.ts';
import { VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_REGION_READ, vfio_user_region_access } from '../../src/abi/vfio-user.ts';
import { createEventfd, readEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { sys } from '../../src/linux/ffi.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { RawClient } from './raw-client.ts';
import { TestServer, withServer } from './served.ts';

const server = await withServer();

const NONE = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
const BOOL = VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER;
const EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
const MSIX = VFIO_PCI_MSIX_IRQ_INDEX;

interface SetIrqs {
  flags: number;
  index: number;
  start?: number;
  count: number;
  data?: Uint8Array;
  argsz?: number;
}

function setIrqs(client: RawClient, request: SetIrqs, fds: readonly number[] = []): string {
  const { flags, index, start = 0, count, data = new Uint8Array(0) } = request;
  const argsz = request.argsz ?? vfio_irq_set.sizeof + data.length;
  const payload = Buffer.concat([vfio_irq_set.encode({ argsz, flags, index, start, count }), data]);
  return client.outcome({ command: VFIO_USER_DEVICE_SET_IRQS }, payload, fds);
}

test('MSI-X in all forms, in the order that QEMU has: enable without descriptors, n vectors, one at a time', async () => {
  const client = RawClient.ready(server.path('lender'));
  const events = Array.from({ length: 4 }, (_, i) => createEventfd(`vector ${i}`));
  const fds = events.map((event) => event.fd);
  const counts = () => events.map((event) => readEventfd(event.fd));
  const set = (request: SetIrqs, sent: readonly number[] = []) => setIrqs(client, request, sent);

  assert.equal(set({ flags: EVENTFD, index: MSIX, count: 1 }), 'ok', 'no descriptors: enabled, nobody listens');
  assert.equal(set({ flags: EVENTFD, index: MSIX, count: 4 }, fds), 'ok');
  assert.equal(set({ flags: NONE, index: MSIX, count: 4 }), 'ok');
  assert.deepEqual(counts(), [1, 1, 1, 1]);
  assert.equal(set({ flags: NONE, index: MSIX, start: 2, count: 1 }), 'ok');
  assert.equal(set({ flags: BOOL, index: MSIX, count: 4, data: Uint8Array.of(1, 0, 1, 0) }), 'ok');
  assert.deepEqual(counts(), [1, 0, 2, 0]);
  assert.equal(set({ flags: EVENTFD, index: MSIX, start: 1, count: 1 }, [fds[0]]), 'ok', 'vector 1 moves');
  assert.equal(set({ flags: NONE, index: MSIX, start: 1, count: 1 }), 'ok');
  assert.deepEqual(counts(), [1, 0, 0, 0]);
  assert.equal(set({ flags: EVENTFD, index: MSIX, start: 0, count: 1 }), 'ok', 'vector 0 loses its eventfd');
  assert.equal(set({ flags: NONE, index: MSIX, count: 2 }), 'ok');
  assert.deepEqual(counts(), [1, 0, 0, 0]);
  assert.equal(set({ flags: NONE, index: MSIX, count: 0 }), 'ok', 'disabled');
  assert.equal(set({ flags: NONE, index: MSIX, count: 1 }), 'EINVAL', 'not enabled');
  assert.deepEqual(counts(), [0, 0, 0, 0]);
  for (const event of events) event.close();
  client.close();
  await server.assertNothingLeft();
});

test('eventfds that a client leaves behind are closed', async () => {
  const client = RawClient.ready(server.path('lender'));
  const events = Array.from({ length: 4 }, () => createEventfd());
  const fds = events.map((event) => event.fd);
  assert.equal(setIrqs(client, { flags: EVENTFD, index: MSIX, count: 4 }, fds), 'ok');
  assert.equal(setIrqs(client, { flags: EVENTFD, index: VFIO_PCI_ERR_IRQ_INDEX, count: 1 }, [fds[0]]), 'ok');
  assert.equal(setIrqs(client, { flags: EVENTFD, index: VFIO_PCI_REQ_IRQ_INDEX, count: 1 }, [fds[1]]), 'ok');
  assert.equal(setIrqs(client, { flags: NONE, index: VFIO_PCI_ERR_IRQ_INDEX, count: 1 }), 'ok');
  assert.equal(setIrqs(client, { flags: BOOL, index: VFIO_PCI_REQ_IRQ_INDEX, count: 1, data: Uint8Array.of(1) }), 'ok');
  assert.deepEqual(
    events.map((event) => readEventfd(event.fd)),
    [1, 1, 0, 0],
  );
  for (const event of events) event.close();
  client.close();
  await server.assertNothingLeft();
});

test('descriptors behind accesses that stay in the socket: an access drops them, SET_IRQS gets its own', async () => {
  const client = RawClient.ready(server.path('lender'));
  const [dropped, used] = [createEventfd(), createEventfd()];
  for (let i = 0; i < 9; i++) {
    const access = vfio_user_region_access.encode({ offset: 0, region: VFIO_PCI_CONFIG_REGION_INDEX, count: 4 });
    const outcome = client.outcome({ command: VFIO_USER_REGION_READ }, access, i % 4 === 3 ? [dropped.fd] : []);
    assert.equal(outcome, 'ok');
  }
  assert.equal(setIrqs(client, { flags: EVENTFD, index: MSIX, count: 1 }, [used.fd]), 'ok');
  assert.equal(setIrqs(client, { flags: NONE, index: MSIX, count: 1 }), 'ok');
  assert.deepEqual([readEventfd(dropped.fd), readEventfd(used.fd)], [0, 1]);
  dropped.close();
  used.close();
  client.close();
  await server.assertNothingLeft();
});

test('what SET_IRQS refuses changes nothing and keeps no descriptor', async () => {
  const client = RawClient.ready(server.path('lender'));
  const event = createEventfd();
  const memfd = createMemfd('test', 4096);
  const table: [string, SetIrqs, number[], string][] = [
    ['a short argsz', { flags: NONE, index: MSIX, count: 0, argsz: 19 }, [], 'EINVAL'],
    ['an unknown index', { flags: NONE, index: 5, count: 0 }, [], 'EINVAL'],
    ['an index of 32 bits', { flags: NONE, index: 0xffffffff, count: 0 }, [], 'EINVAL'],
    ['unknown flags', { flags: 1 << 6, index: MSIX, count: 0 }, [], 'EINVAL'],
    ['two kinds of data', { flags: NONE | BOOL, index: MSIX, count: 1, data: Uint8Array.of(1) }, [], 'EINVAL'],
    ['more than there are', { flags: EVENTFD, index: MSIX, count: 5 }, [], 'EINVAL'],
    ['a start behind the end', { flags: EVENTFD, index: MSIX, start: 4, count: 1 }, [event.fd], 'EINVAL'],
    ['a sum that wraps', { flags: EVENTFD, index: MSIX, start: 0xffffffff, count: 1 }, [event.fd], 'EINVAL'],
    ['a count of 32 bits', { flags: EVENTFD, index: MSIX, count: 0xffffffff }, [], 'EINVAL'],
    ['fewer descriptors than interrupts', { flags: EVENTFD, index: MSIX, count: 2 }, [event.fd], 'EINVAL'],
    ['more descriptors than interrupts', { flags: EVENTFD, index: MSIX, count: 1 }, [event.fd, event.fd], 'EINVAL'],
    ['a file for an eventfd', { flags: EVENTFD, index: MSIX, count: 2 }, [event.fd, memfd.fd], 'EINVAL'],
    ['bools that do not come', { flags: BOOL, index: MSIX, count: 4, data: Uint8Array.of(1) }, [], 'EINVAL'],
    [
      'a mask of MSI-X',
      { flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, index: MSIX, count: 1 },
      [],
      'ENOTTY',
    ],
    [
      'an unmask of the error interrupt',
      { flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, index: VFIO_PCI_ERR_IRQ_INDEX, count: 1 },
      [],
      'ENOTTY',
    ],
    ['INTx that is absent', { flags: EVENTFD, index: VFIO_PCI_INTX_IRQ_INDEX, count: 1 }, [event.fd], 'EINVAL'],
    ['MSI that is absent', { flags: EVENTFD, index: VFIO_PCI_MSI_IRQ_INDEX, count: 1 }, [event.fd], 'EINVAL'],
    ['no action', { flags: VFIO_IRQ_SET_DATA_NONE, index: MSIX, count: 1 }, [], 'ENOTTY'],
  ];
  for (const [name, request, fds, outcome] of table) assert.equal(setIrqs(client, request, fds), outcome, name);
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_SET_IRQS }, Buffer.alloc(19)), 'EINVAL');
  assert.equal(setIrqs(client, { flags: EVENTFD, index: MSIX, count: 1 }, [event.fd]), 'ok', 'still usable');
  assert.equal(setIrqs(client, { flags: NONE, index: MSIX, count: 1 }), 'ok');
  assert.equal(readEventfd(event.fd), 1);
  event.close();
  memfd.close();
  client.close();
  await server.assertNothingLeft();
});

test('a counter that its owner filled up blocks nobody', async () => {
  const client = RawClient.ready(server.path('lender'));
  const event = createEventfd('full', 0xffffffff);
  assert.equal(setIrqs(client, { flags: EVENTFD, index: MSIX, count: 1 }, [event.fd]), 'ok');
  const words = Buffer.alloc(8);
  words.writeBigUInt64LE((1n << 64n) - 2n - 0xffffffffn);
  writeSync(event.fd, words);
  const flags = sys.fcntl(event.fd, F_GETFL, 0);
  assert.equal(sys.fcntl(event.fd, F_SETFL, flags & ~O_NONBLOCK), 0, 'blocking again');
  assert.equal(setIrqs(client, { flags: NONE, index: MSIX, count: 1 }), 'ok');
  const bystander = RawClient.ready(server.path('bystander'));
  bystander.close();
  event.close();
  client.close();
  await server.assertNothingLeft();
});

test('INTx: masked as it is delivered; unmasked by a message or an eventfd, it comes again while its cause stands', async () => {
  const machine = parseMachine(
    `
machine: pin
ports: [{ name: root, kind: root }]
devices:
  - { name: pin, model: ioat, port: root, capabilities: { intx: true, express: { flr: true } } }
`,
    'pin.yaml',
  );
  const pin = new TestServer();
  await pin.start(machine);
  const client = new VfioUserClient(pin.path('pin'));
  const trigger = createEventfd('trigger');
  const resample = createEventfd('resample');
  const INTX = VFIO_PCI_INTX_IRQ_INDEX;
  assert.equal(client.irqInfo(INTX).count, 1);
  const set = (data: number, action: number, count = 1, bytes?: Uint8Array, fds: number[] = []) =>
    client.setIrqs(data | action, INTX, 0, count, bytes, fds);
  assert.throws(() => set(VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_ACTION_UNMASK), /EINVAL/, 'not enabled yet');
  set(VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, 1, undefined, [trigger.fd]);
  client.writeRegion(7, 4, Buffer.from([6, 0]));
  const chain = createMemfd('test', 4096);
  writeSync(chain.fd, ioat_dma_descriptor.encode({ ctl: IOAT_DESC_CTL_NULL | IOAT_DESC_CTL_INT_EN }));
  client.dmaMap(4096, 4096, 3, chain.fd);
  const write = (register: number, ...bytes: number[]) => client.writeRegion(0, register, Buffer.from(bytes));
  const channel = (register: number) => IOAT_CHANNEL_MMIO_SIZE + register;
  /** A null descriptor: the engine does nothing, and reports completion. */
  const work = () => {
    write(channel(IOAT_CHANCTRL_OFFSET), IOAT_CHANCTRL_INT_REARM, 0);
    write(channel(IOAT_CHAINADDR_OFFSET), 0, 0x10, 0, 0, 0, 0, 0, 0);
    write(channel(IOAT_CHAN_DMACOUNT_OFFSET), 1, 0);
    for (let i = 0; i < 3; i++) client.irqInfo(INTX);
  };
  write(IOAT_INTRCTRL_OFFSET, IOAT_INTRCTRL_MASTER_INT_EN);
  /** Does the work of a driver's handler: reads the cause of the interrupt, which clears it. */
  const acknowledge = () => client.readRegion(0, IOAT_ATTNSTATUS_OFFSET, Buffer.alloc(4));
  /** The interrupts so far: the server answers in order, and runs its tasks before the next message. */
  const came = () => {
    for (let i = 0; i < 3; i++) client.irqInfo(INTX);
    return readEventfd(trigger.fd);
  };
  work();
  assert.equal(came(), 1);
  set(VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_ACTION_UNMASK);
  assert.equal(came(), 1, 'the cause stands: the device was not acknowledged');
  acknowledge();
  set(VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_ACTION_UNMASK, 1, Uint8Array.of(1));
  assert.equal(came(), 0);
  set(VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_ACTION_MASK, 1, Uint8Array.of(1));
  work();
  assert.equal(came(), 0, 'masked');
  set(VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_UNMASK, 1, undefined, [resample.fd]);
  signalEventfd(resample.fd);
  assert.equal(client.waitFor(trigger.fd, 2000), true, 'unmasked by the eventfd');
  assert.equal(came(), 1);
  signalEventfd(resample.fd);
  assert.equal(client.waitFor(trigger.fd, 2000), true, 'and again');
  acknowledge();
  readEventfd(trigger.fd);
  assert.throws(() => set(VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_MASK, 1, undefined, [resample.fd]), /ENOTTY/);
  const memfd = createMemfd('test', 4096);
  assert.throws(
    () => set(VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_UNMASK, 1, undefined, [memfd.fd]),
    /EINVAL/,
    'no eventfd',
  );
  set(VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_ACTION_TRIGGER, 0);
  signalEventfd(resample.fd);
  work();
  assert.equal(came(), 0, 'disabled');
  client.close();
  for (const fd of [trigger, resample, memfd, chain]) fd.close();
  await pin.assertNothingLeft();
  await pin.stop();
});
