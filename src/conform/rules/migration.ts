/** Migration: states and the stream. */
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY,
  vfio_device_feature_mig_state,
} from '../../abi/vfio-feature.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_MIG_DATA_READ,
  VFIO_USER_MIG_DATA_WRITE,
} from '../../abi/vfio-user.ts';
import type { Incoming, RawPeer } from '../peer.ts';
import * as request from '../requests.ts';
import { rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs, notApplicable } from '../verdict.ts';

const states = rulesOf('migration', 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE');
const stream = rulesOf('migration', 'VFIO_USER_MIG_DATA_READ');
const writing = rulesOf('migration', 'VFIO_USER_MIG_DATA_WRITE');
const FEATURE = VFIO_USER_DEVICE_FEATURE;
const STATE = VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
const READ = VFIO_USER_MIG_DATA_READ;
const WRITE = VFIO_USER_MIG_DATA_WRITE;
const [ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY] = [
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_PRE_COPY,
];
const NAMES = ['ERROR', 'STOP', 'RUNNING', 'STOP_COPY', 'RESUMING', 'RUNNING_P2P', 'PRE_COPY', 'PRE_COPY_P2P'];
/** A stream that is longer than this is not read to its end. */
const MOST_READS = 4096;
const CHUNK = 65536;

function migrating(t: Trial, flags = VFIO_MIGRATION_STOP_COPY): RawPeer {
  needs(t.facts.migration !== null, 'the device does not migrate');
  needs((t.facts.migration & flags) === flags, 'the device lacks this part of migration');
  return t.ready();
}

function change(state: number): Buffer {
  const data = vfio_device_feature_mig_state.encode({ device_state: state, data_fd: -1 });
  return request.feature(VFIO_DEVICE_FEATURE_SET | STATE, data, 8 + data.length);
}

function set(peer: RawPeer, ...way: number[]): void {
  for (const state of way) {
    const reply = peer.call(FEATURE, change(state));
    demand(!reply.failed, `the change to ${NAMES[state]} fails with errno ${reply.errno}`);
  }
}

function stateOf(peer: RawPeer): number {
  const { payload, view } = peer.ok(FEATURE, request.feature(VFIO_DEVICE_FEATURE_GET | STATE));
  demand(payload.length >= 12, `GET of the state brings ${payload.length} bytes`);
  return view.getUint32(8, true);
}

/** Goes a way of states, and sees the last one. */
function goes(...way: number[]) {
  return (t: Trial) => {
    const preCopy = way.includes(PRE_COPY) ? VFIO_MIGRATION_PRE_COPY : 0;
    const peer = migrating(t, VFIO_MIGRATION_STOP_COPY | preCopy);
    set(peer, ...way);
    const now = stateOf(peer);
    demand(now === way.at(-1), `the state is ${NAMES[now] ?? now}, not ${NAMES[way.at(-1)!]}`);
  };
}

/** Goes a way of states whose last step is refused. */
function refuses(...way: number[]) {
  return (t: Trial) => {
    const peer = migrating(t);
    set(peer, ...way.slice(0, -1));
    const last = way.at(-1)!;
    peer.refused(`the change to ${NAMES[last] ?? last}`, FEATURE, change(last));
    t.stillServes(peer);
  };
}

/** Reads until a read brings nothing. */
function readStream(peer: RawPeer, chunk = CHUNK): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i < MOST_READS; i++) {
    const { payload } = peer.ok(READ, request.migData(chunk));
    const size = payload.readUInt32LE(4);
    demand(size <= chunk, `a read of ${chunk} bytes brings ${size}`);
    demand(payload.length === 8 + size, `${payload.length} bytes for a size of ${size}`);
    if (size === 0) return Buffer.concat(parts);
    parts.push(payload.subarray(8));
  }
  return notApplicable('the stream is too long for the kit');
}

function dataRefused(what: string, way: number[], command: number, payload: Uint8Array) {
  return (t: Trial) => {
    const peer = migrating(t);
    set(peer, ...way);
    peer.refused(what, command, payload);
    t.stillServes(peer);
  };
}

function saved(t: Trial): { peer: RawPeer; bytes: Buffer } {
  const peer = migrating(t);
  set(peer, STOP, STOP_COPY);
  const bytes = readStream(peer);
  set(peer, STOP);
  return { peer, bytes };
}

function load(peer: RawPeer, bytes: Uint8Array): Incoming {
  set(peer, RESUMING);
  for (let at = 0; at < bytes.length; at += CHUNK) {
    const part = bytes.subarray(at, at + CHUNK);
    peer.ok(WRITE, request.migData(part.length, part));
  }
  return peer.call(FEATURE, change(STOP));
}

export const MIGRATION_RULES = [
  states(
    'stop-copy-flag',
    'A device that migrates has STOP_COPY at least.',
    (t) => {
      migrating(t, 0);
      demand((t.facts.migration! & VFIO_MIGRATION_STOP_COPY) !== 0, `the flags are ${t.facts.migration}`);
    },
    'VFIO_DEVICE_FEATURE_MIGRATION',
  ),
  states(
    'known-flags',
    'Only the flags STOP_COPY, P2P and PRE_COPY are defined.',
    (t) => {
      migrating(t, 0);
      demand((t.facts.migration! & ~7) === 0, `the flags are ${t.facts.migration}`);
    },
    'VFIO_DEVICE_FEATURE_MIGRATION',
  ),
  states(
    'begins-running',
    'A device begins in RUNNING.',
    (t) => {
      const now = stateOf(migrating(t));
      demand(now === RUNNING, `the state is ${NAMES[now] ?? now}`);
    },
    'linux/vfio.h, vfio_device_mig_state',
  ),
  states('running-to-stop', 'A device stops.', goes(STOP)),
  states('stop-to-running', 'A stopped device runs again.', goes(STOP, RUNNING)),
  states('stop-to-stop-copy', 'A stopped device can be read out.', goes(STOP, STOP_COPY)),
  states('stop-copy-to-stop', 'Reading out can be ended before the end of the stream.', goes(STOP, STOP_COPY, STOP)),
  states('stop-copy-to-running', 'From STOP_COPY a device runs again, by way of STOP.', goes(STOP_COPY, RUNNING)),
  states('stop-to-resuming', 'A stopped device takes a new state.', goes(STOP, RESUMING)),
  states('running-to-stop-copy', 'A running device can be read out, by way of STOP.', goes(STOP_COPY)),
  states('running-to-resuming', 'A running device takes a new state, by way of STOP.', goes(RESUMING)),
  states(
    'same-state',
    'A change to the state that the device has succeeds.',
    goes(RUNNING),
    'linux/vfio.h, vfio_device_mig_state',
  ),
  states('pre-copy', 'A running device can be read ahead.', goes(PRE_COPY)),
  states('pre-copy-to-running', 'Reading ahead can be ended.', goes(PRE_COPY, RUNNING)),
  states('pre-copy-to-stop-copy', 'After reading ahead the rest is read out.', goes(PRE_COPY, STOP_COPY)),
  states('stop-copy-to-pre-copy', 'The change from STOP_COPY to PRE_COPY is an error.', (t) => {
    migrating(t, VFIO_MIGRATION_PRE_COPY);
    t.closePeers();
    refuses(STOP_COPY, PRE_COPY)(t);
  }),
  states('pre-copy-without-flag', 'Without the flag PRE_COPY there is no such state.', (t) => {
    migrating(t, 0);
    needs((t.facts.migration! & VFIO_MIGRATION_PRE_COPY) === 0, 'the device has PRE_COPY');
    t.closePeers();
    refuses(PRE_COPY)(t);
  }),
  states('p2p-without-flag', 'Without the flag P2P there is no state RUNNING_P2P.', (t) => {
    migrating(t, 0);
    needs((t.facts.migration! & VFIO_MIGRATION_P2P) === 0, 'the device has the states of P2P');
    t.closePeers();
    refuses(VFIO_DEVICE_STATE_RUNNING_P2P)(t);
  }),
  states('to-error', 'ERROR cannot be asked for.', refuses(ERROR)),
  states('to-unknown', 'A state that does not exist cannot be asked for.', refuses(100)),
  states('to-largest', 'The state 0xffffffff cannot be asked for.', refuses(0xffff_ffff)),
  states(
    'set-repeats',
    'The reply to SET is the payload of the request.',
    (t) => {
      const { payload } = migrating(t).ok(FEATURE, change(STOP));
      demand(payload.equals(change(STOP)), `the reply is ${payload.toString('hex')}`);
    },
    'VFIO_USER_DEVICE_FEATURE',
  ),
  states('resuming-without-data', 'A new state that is incomplete fails, and does not run.', (t) => {
    const peer = migrating(t);
    set(peer, RESUMING);
    peer.refused('STOP without any data', FEATURE, change(STOP));
    t.stillServes(peer);
  }),
  states('error-ends-with-reset', 'A reset leads from ERROR back to RUNNING.', (t) => {
    const peer = migrating(t);
    set(peer, RESUMING);
    peer.call(FEATURE, change(STOP));
    peer.ok(VFIO_USER_DEVICE_RESET);
    const now = stateOf(peer);
    demand(now === RUNNING, `the state is ${NAMES[now] ?? now}`);
  }),
  states(
    'stop-ends-with-reset',
    'A reset leads from STOP back to RUNNING.',
    (t) => {
      const peer = migrating(t);
      set(peer, STOP);
      peer.ok(VFIO_USER_DEVICE_RESET);
      const now = stateOf(peer);
      demand(now === RUNNING, `the state is ${NAMES[now] ?? now}`);
    },
    'linux/vfio.h, vfio_device_mig_state',
  ),
  stream(
    'read-while-running',
    'There is no stream while the device runs.',
    dataRefused('a read in RUNNING', [], READ, request.migData(64)),
  ),
  stream(
    'read-while-stopped',
    'There is no stream in STOP.',
    dataRefused('a read in STOP', [STOP], READ, request.migData(64)),
  ),
  stream(
    'read-while-resuming',
    'There is nothing to read in RESUMING.',
    dataRefused('a read in RESUMING', [RESUMING], READ, request.migData(64)),
  ),
  stream('read-size', 'A read brings the size that its reply names, and no more than was asked for.', (t) => {
    const peer = migrating(t);
    set(peer, STOP_COPY);
    const { payload } = peer.ok(READ, request.migData(CHUNK));
    const size = payload.readUInt32LE(4);
    demand(size <= CHUNK && payload.length === 8 + size, `size ${size}, and ${payload.length - 8} bytes`);
  }),
  stream('read-argsz', 'argsz of the reply counts the struct and the data.', (t) => {
    const peer = migrating(t);
    set(peer, STOP_COPY);
    const { payload } = peer.ok(READ, request.migData(CHUNK));
    demand(payload.readUInt32LE(0) === payload.length, `argsz ${payload.readUInt32LE(0)}, and ${payload.length} bytes`);
  }),
  stream('stream-ends', 'A client that goes on reading comes to the end: a read that brings nothing.', (t) => {
    const peer = migrating(t);
    set(peer, STOP_COPY);
    demand(readStream(peer).length > 0, 'the stream is empty');
  }),
  stream('small-reads', 'The stream may be read in small parts.', (t) => {
    const peer = migrating(t);
    set(peer, STOP_COPY);
    for (let i = 0; i < 16; i++) {
      const { payload } = peer.ok(READ, request.migData(1));
      demand(payload.readUInt32LE(4) <= 1, `a read of a byte brings ${payload.readUInt32LE(4)}`);
    }
  }),
  stream(
    'read-beyond-the-limit',
    'A read of more than max_data_xfer_size bytes is refused, or brings no more.',
    (t) => {
      const peer = migrating(t);
      set(peer, STOP_COPY);
      const most = t.facts.limits.maxDataXferBytes;
      const reply = peer.call(READ, request.migData(most + 1));
      if (!reply.failed) demand(reply.payload.length <= 8 + most, `${reply.payload.length} bytes came`);
      t.stillServes(peer);
    },
    'Read and Write Operations',
  ),
  stream('read-argsz-too-small', 'A reply is never longer than argsz.', (t) => {
    const peer = migrating(t);
    set(peer, STOP_COPY);
    const { payload } = peer.call(READ, request.migData(64, new Uint8Array(0), 16));
    demand(payload.length <= 16, `${payload.length} bytes for argsz 16`);
  }),
  stream(
    'read-short',
    'A request without its struct is refused.',
    dataRefused('a read of 4 bytes', [STOP_COPY], READ, Buffer.alloc(4)),
  ),
  writing(
    'write-while-running',
    'Nothing can be loaded while the device runs.',
    dataRefused('a write in RUNNING', [], WRITE, request.migData(4, Buffer.alloc(4))),
  ),
  writing(
    'write-while-saving',
    'Nothing can be loaded in STOP_COPY.',
    dataRefused('a write in STOP_COPY', [STOP_COPY], WRITE, request.migData(4, Buffer.alloc(4))),
  ),
  writing(
    'write-too-few-data',
    'A write whose size is larger than its data is refused.',
    dataRefused('a size of 64 with 4 bytes', [RESUMING], WRITE, request.migData(64, Buffer.alloc(4))),
  ),
  writing(
    'write-short',
    'A request without its struct is refused.',
    dataRefused('a write of 4 bytes', [RESUMING], WRITE, Buffer.alloc(4)),
  ),
  writing('round-trip', 'What was read out can be loaded again, and the device runs.', (t) => {
    const { peer, bytes } = saved(t);
    const reply = load(peer, bytes);
    demand(!reply.failed, `the end of loading fails with errno ${reply.errno}`);
    set(peer, RUNNING);
  }),
  writing(
    'cut-short',
    'A stream that is cut short is refused at its end.',
    (t) => {
      const { peer, bytes } = saved(t);
      needs(bytes.length > 1, 'the stream is empty');
      demand(load(peer, bytes.subarray(0, bytes.length >> 1)).failed, 'half of a stream was loaded');
      t.stillServes(peer);
    },
    'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE',
  ),
];
