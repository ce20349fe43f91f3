/** Resources that the kernel refuses a server: descriptors (EMFILE), epoll watches (ENOSPC), and a pid. */
import assert from 'node:assert/strict';
import { ftruncateSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { ERRNO } from '../../src/abi/errno.ts';
import { viewOf } from '../../src/abi/layout.ts';
import { EPOLL_CTL_ADD } from '../../src/abi/poll.ts';
import { SO_PEERCRED, SOL_SOCKET } from '../../src/abi/socket.ts';
import {
  vfio_irq_set,
  vfio_pci_dependent_device,
  vfio_pci_hot_reset,
  vfio_pci_hot_reset_info,
  vfio_region_info,
} from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_X_GET_PCI_HOT_RESET_INFO,
  VFIO_USER_X_PCI_HOT_RESET,
  vfio_user_dma_map,
  vfio_user_region_io_fds,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { sys } from '../../src/linux/ffi.ts';
import { setOpenFilesLimit } from '../../src/linux/process.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { openFds } from '../linux/open-fds.ts';
import { InProcessServer } from './in-process.ts';
import { message, RawClient, type RawHeader } from './raw-client.ts';

const F_GETFD = 1;

const MACHINE = parseMachine(
  `
machine: short
ports: [{ name: root, kind: root }, { name: other, kind: root }]
devices:
  - { name: lender, model: memory, port: root, bars: [{ index: 0, size: 1M }] }
  - { name: sibling, model: memory, port: root, bars: [{ index: 0, size: 1M }] }
  - { name: pin, model: ioat, port: other, capabilities: { intx: true, express: { flr: true } } }
`,
  'short.yaml',
);
const server = new InProcessServer(MACHINE);
after(() => server.close());

/** The error number of a command's reply. The caller owns the connection and its other messages. */
function errorOf(client: RawClient, header: RawHeader, payload: Uint8Array, fds: readonly number[] = []): number {
  client.send(message(header, payload), fds);
  server.pump();
  const reply = client.tryReceive();
  assert.ok(reply, 'no reply');
  for (const fd of reply.fds) fd.close();
  return reply.error;
}

const regionInfo = vfio_region_info.encode({ argsz: 4096, index: 0 });

function assertServes(device: string): void {
  const client = server.ready(device);
  assert.equal(errorOf(client, { command: VFIO_USER_DEVICE_GET_REGION_INFO }, regionInfo), 0);
  client.close();
  server.pump();
}

test('a reply whose descriptor cannot be kept until the client reads ends that client alone', () => {
  const deaf = server.ready('lender');
  const other = server.ready('sibling');
  server.log.length = 0;
  // No new descriptor has a number below this.
  const before = setOpenFilesLimit(8);
  try {
    for (let sent = 0; server.log.length === 0 && sent < 5000; sent++) {
      deaf.sendMessage({ command: VFIO_USER_DEVICE_GET_REGION_INFO }, regionInfo);
      server.pump();
    }
  } finally {
    setOpenFilesLimit(before);
  }
  assert.equal(server.log.length, 1);
  assert.match(server.log[0], /^lender: client dropped: EMFILE/);
  deaf.assertDropped();
  deaf.close();
  assert.equal(errorOf(other, { command: VFIO_USER_DEVICE_GET_REGION_INFO }, regionInfo), 0);
  other.close();
  server.pump();
  assertServes('lender');
});

test('a file that cannot be looked at for want of descriptors is EMFILE, with one clear line, and mapped later', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-short-'));
  const file = new OwnedFd(openSync(join(folder, 'ram'), 'w+'), 'file');
  ftruncateSync(file.fd, 4096);
  const client = server.ready('lender');
  const map = vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr: 0x1000, size: 4096 });
  server.log.length = 0;
  // One number is left, which the descriptor of the message takes.
  const used = new Set(readdirSync('/proc/self/fd').map(Number));
  const free = Array.from({ length: 1000 }, (_, i) => i).filter((fd) => !used.has(fd) || !isOpen(fd));
  const before = setOpenFilesLimit(free[1]);
  let error: number;
  try {
    error = errorOf(client, { command: VFIO_USER_DMA_MAP }, map, [file.fd]);
  } finally {
    setOpenFilesLimit(before);
  }
  assert.equal(error, ERRNO.EMFILE);
  assert.equal(server.log.length, 1, server.log.join('\n'));
  assert.match(server.log[0], /^lender: a request failed: EMFILE: .*too many open files[^\n]*$/);
  assert.equal(errorOf(client, { command: VFIO_USER_DMA_MAP }, map, [file.fd]), 0);
  client.close();
  server.pump();
  file.close();
  rmSync(folder, { recursive: true });
});

/** Whether it is open still: the folder of descriptors lists the one that it was read through. */
function isOpen(fd: number): boolean {
  return sys.fcntl(fd, F_GETFD, 0) >= 0;
}

/** Makes epoll refuse new watches until it is restored. */
function refuseWatches(t: TestContext) {
  const ctl = sys.epoll_ctl;
  return t.mock.method(sys, 'epoll_ctl', (...args: Parameters<typeof ctl>) =>
    args[1] === EPOLL_CTL_ADD ? -ERRNO.ENOSPC : ctl(...args),
  );
}

test('a client that epoll has no room for is turned away; the next one is served', (t) => {
  server.log.length = 0;
  const idle = openFds();
  const refusing = refuseWatches(t);
  const client = new RawClient(server.path('lender'));
  server.pump();
  client.assertDropped();
  client.close();
  refusing.mock.restore();
  assert.deepEqual(openFds(), idle);
  assert.equal(server.log.length, 1);
  assert.match(server.log[0], /lender\.sock: a client was turned away: ENOSPC/);
  assertServes('lender');
});

test('an eventfd that epoll has no room for is refused, and closed', (t) => {
  const client = server.ready('pin');
  const event = createEventfd('unmask');
  const doorbells = vfio_user_region_io_fds.encode({ argsz: 4096, index: 0 });
  const intx = (flags: number) => vfio_irq_set.encode({ argsz: 20, flags, index: 0, start: 0, count: 1 });
  assert.equal(errorOf(client, { command: VFIO_USER_DEVICE_SET_IRQS }, intx(0x24), [event.fd]), 0);
  const idle = openFds();
  const refusing = refuseWatches(t);
  const { ENOSPC } = ERRNO;
  assert.equal(errorOf(client, { command: VFIO_USER_DEVICE_GET_REGION_IO_FDS }, doorbells), ENOSPC);
  assert.deepEqual(openFds(), idle);
  assert.equal(errorOf(client, { command: VFIO_USER_DEVICE_SET_IRQS }, intx(0x14), [event.fd]), ENOSPC);
  assert.deepEqual(openFds(), idle);
  refusing.mock.restore();
  assert.equal(errorOf(client, { command: VFIO_USER_DEVICE_GET_REGION_IO_FDS }, doorbells), 0);
  client.close();
  event.close();
  server.pump();
});

/** How many devices a hot reset would reset, all in one group. */
function hitBy(client: RawClient): number {
  const request = vfio_pci_hot_reset_info.encode({ argsz: vfio_pci_hot_reset_info.sizeof });
  client.send(message({ command: VFIO_USER_X_GET_PCI_HOT_RESET_INFO }, request));
  server.pump();
  const view = viewOf(client.tryReceive()!.payload);
  const { argsz, count } = vfio_pci_hot_reset_info.read(view);
  assert.equal(argsz, view.byteLength);
  const groups = Array.from({ length: count }, (_, i) => {
    const at = vfio_pci_hot_reset_info.sizeof + i * vfio_pci_dependent_device.sizeof;
    return vfio_pci_dependent_device.read(view, at).group_id;
  });
  assert.equal(new Set(groups).size, 1);
  return count;
}

test('processes whose number cannot be told do not count as one: a hot reset needs devices that are their own', (t) => {
  const getsockopt = sys.getsockopt;
  let pid = 4242;
  t.mock.method(sys, 'getsockopt', (...args: Parameters<typeof getsockopt>) => {
    const result = getsockopt(...args);
    if (args[1] === SOL_SOCKET && args[2] === SO_PEERCRED) (args[3] as Buffer).writeInt32LE(pid, 0);
    return result;
  });
  const reset = vfio_pci_hot_reset.encode({ argsz: vfio_pci_hot_reset.sizeof });
  for (const [number, both] of [
    [4242, 0],
    // In another pid namespace.
    [0, ERRNO.EINVAL],
  ]) {
    pid = number;
    const clients = ['lender', 'sibling'].map((device) => server.ready(device));
    assert.equal(hitBy(clients[0]), 2);
    assert.equal(errorOf(clients[0], { command: VFIO_USER_X_PCI_HOT_RESET }, reset), both, `two clients of ${pid}`);
    clients[1].close();
    server.pump();
    assert.equal(errorOf(clients[0], { command: VFIO_USER_X_PCI_HOT_RESET }, reset), 0, `one client of ${pid}`);
    clients[0].close();
    server.pump();
  }
});
