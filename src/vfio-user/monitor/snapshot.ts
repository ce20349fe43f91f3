/** Takes the state of a server, between two rounds of its event loop. */
import { DMA_RESV_USAGE_BOOKKEEP } from '../../dma-buf/resv.ts';
import { Lock, Mutex, RwSemaphore } from '../../task/lock.ts';
import { runner } from '../../task/runner.ts';
import type { Shared } from '../../task/shared.ts';
import type { TaskHandle } from '../../task/task-handle.ts';
import type { ServedDevice, VfioUserServer } from '../server/server.ts';
import { nowMs, type WatchedBuffer } from './recorder.ts';
import type { BufferState, ControlState, DeviceState, LockState, ServerState, WaitState } from './state.ts';

/** A client may hold thousands of buffers; the page shows the newest. */
const MAX_BUFFERS = 100;
const MAX_IMPORTERS = 16;
const MAX_WAITS = 50;
const MAX_TASKS = 8;
const MAX_LIMITS = 100;

export function snapshot(server: VfioUserServer, control: ControlState | null): ServerState {
  const watched = server.devices.flatMap((device) =>
    [...(device.monitor?.buffers.buffers.values() ?? [])].map((buffer) => ({ device, buffer })),
  );
  const buffers = watched.slice(-MAX_BUFFERS).map(({ device, buffer }) => bufferState(device.vdev.pdev.name, buffer));
  const all = watched.map(({ buffer }) => buffer);
  const limits = [...server.devices.flatMap((device) => device.usage()), ...server.exports.usage()];
  return {
    atMs: nowMs(),
    devices: server.devices.map(deviceState),
    buffers,
    moreBuffers: watched.length - buffers.length,
    locks: lockStates(server.devices, all),
    waits: waitStates(all),
    limits: limits.sort((a, b) => b.used / b.most - a.used / a.most).slice(0, MAX_LIMITS),
    control,
  };
}

function deviceState(device: ServedDevice): DeviceState {
  const { vdev, owner, ownedSinceMs } = device;
  const { pdev } = vdev;
  return {
    name: pdev.name,
    bdf: pdev.bdf,
    isOpen: vdev.isOpen,
    client: owner === null ? null : { pid: owner.peerPid, sinceMs: ownedSinceMs },
    waitingClients: device.waiting,
    powerState: pdev.powerState.value,
    lowPower: vdev.lowPower.engaged.value,
    memoryDecodes: pdev.memoryDecode.value,
    bars: pdev.bars.flatMap((bar) => {
      if (bar === null) return [];
      const { index, kind, prefetchable, sizeBytes, address } = bar;
      return [{ index, kind, prefetchable, sizeBytes, address }];
    }),
    dmaBytes: pdev.dmaBytes,
  };
}

function bufferState(device: string, watched: WatchedBuffer): BufferState {
  const { id, buffer, lent, sinceMs, cause, revoking } = watched;
  return {
    ...lent,
    id,
    device,
    name: buffer.dmabuf.name,
    sinceMs,
    revoked: buffer.revoked.value,
    cause,
    revokingMs: revoking === null ? null : nowMs() - revoking.atMs,
    pendingFences: buffer.dmabuf.resv.fences(DMA_RESV_USAGE_BOOKKEEP).filter((fence) => !fence.isSignaled).length,
    importers: [...watched.importers.values()]
      .slice(0, MAX_IMPORTERS)
      .map(({ name, mappings }) => ({ ...name, mappings })),
  };
}

/** The locks that are held or waited for. */
function lockStates(devices: readonly ServedDevice[], buffers: readonly WatchedBuffer[]): LockState[] {
  const locks = new Map<Lock, string>();
  for (const { vdev } of devices) {
    locks.set(vdev.deviceSet.lock, vdev.deviceSet.lock.label);
    locks.set(vdev.memoryLock, `${vdev.memoryLock.label} of ${vdev.pdev.name}`);
  }
  for (const { id, buffer } of buffers) {
    const { lock } = buffer.dmabuf.resv;
    if (lock.owner !== null || lock.waiters !== null) locks.set(lock, `${lock.label} of buffer ${id}`);
  }
  for (const { pending } of runner.waiting?.keys() ?? []) {
    const object = pending?.object;
    if (object instanceof Lock && !locks.has(object)) locks.set(object, object.label);
  }
  return [...locks].flatMap(([lock, name]) => {
    const holders = labels(holdersOf(lock));
    const waiters = labels(lock.waiters ?? []);
    return holders.length + waiters.length === 0 ? [] : [{ lock: name, holders, waiters }];
  });
}

function holdersOf(object: Shared): readonly TaskHandle[] {
  if (object instanceof Mutex) return object.owner === null ? [] : [object.owner];
  if (object instanceof RwSemaphore) return object.writer === null ? object.readers : [object.writer];
  return [];
}

function labels(tasks: readonly TaskHandle[]): string[] {
  return tasks.slice(0, MAX_TASKS).map(({ label }) => label);
}

function waitStates(buffers: readonly WatchedBuffer[]): WaitState[] {
  const now = performance.now();
  return [...(runner.waiting ?? [])]
    .sort(([, a], [, b]) => a - b)
    .slice(0, MAX_WAITS)
    .flatMap(([task, since]) => {
      const object = task.pending?.object;
      if (object === undefined) return [];
      const borrowers = buffers.find(({ buffer }) => buffer.kref === object);
      const on = borrowers === undefined ? labels(holdersOf(object)) : importersOf(borrowers);
      return [{ task: task.label, waitsFor: object.label, ms: now - since, on }];
    });
}

/** The importers that keep mappings. */
function importersOf({ importers }: WatchedBuffer): string[] {
  const mapping = [...importers.values()].filter(({ mappings }) => mappings > 0);
  return mapping.slice(0, MAX_TASKS).map(({ name }) => name.name);
}
