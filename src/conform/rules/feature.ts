/** DEVICE_FEATURE: the envelope. */
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../../abi/vfio-feature.ts';
import { VFIO_USER_DEVICE_FEATURE } from '../../abi/vfio-user.ts';
import type { RawPeer } from '../peer.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs } from '../verdict.ts';

const rule = rulesOf('feature', 'VFIO_USER_DEVICE_FEATURE');
const FEATURE = VFIO_USER_DEVICE_FEATURE;
const UNKNOWN = 0xffff;
const GET = VFIO_DEVICE_FEATURE_GET;
const SET = VFIO_DEVICE_FEATURE_SET;
const PROBE = VFIO_DEVICE_FEATURE_PROBE;

/** A connection to a device that has migration. */
function migrating(t: Trial): RawPeer {
  needs(t.facts.migration !== null, 'the device does not migrate');
  return t.ready();
}

const refuses = refusalsOf(FEATURE);
const refusesMigration = refusalsOf(FEATURE, migrating);

function probes(feature: number, method: number) {
  return (t: Trial) => {
    const asked = request.feature(PROBE | method | feature, new Uint8Array(0), 8);
    const { payload } = migrating(t).ok(FEATURE, asked);
    demand(payload.equals(asked), `the reply is ${payload.toString('hex')}, the request was ${asked.toString('hex')}`);
  };
}

export const FEATURE_RULES = [
  rule(
    'unknown-get',
    'A feature that the server does not know is refused: GET.',
    refuses('feature 0xffff', request.feature(GET | UNKNOWN)),
  ),
  rule(
    'unknown-set',
    'A feature that the server does not know is refused: SET.',
    refuses('feature 0xffff', request.feature(SET | UNKNOWN, Buffer.alloc(8))),
  ),
  rule(
    'unknown-probe',
    'A feature that the server does not know is refused: PROBE.',
    refuses('feature 0xffff', request.feature(PROBE | GET | UNKNOWN)),
  ),
  rule(
    'argsz-0',
    'A client without room for the struct is refused: argsz 0.',
    refuses('argsz 0', request.feature(GET | VFIO_DEVICE_FEATURE_MIGRATION, new Uint8Array(0), 0)),
  ),
  rule(
    'argsz-7',
    'A client without room for the struct is refused: argsz 7.',
    refuses('argsz 7', request.feature(PROBE | GET | VFIO_DEVICE_FEATURE_MIGRATION, new Uint8Array(0), 7)),
  ),
  rule(
    'short',
    'A request without its struct is refused.',
    refuses('a request of 4 bytes', request.feature(GET | 1).subarray(0, 4)),
  ),
  rule('empty', 'A request without payload is refused.', refuses('a request of 0 bytes', Buffer.alloc(0))),
  rule(
    'no-method',
    'A request names GET, SET or PROBE.',
    refuses('no method', request.feature(VFIO_DEVICE_FEATURE_MIGRATION)),
  ),
  rule(
    'get-and-set',
    'GET and SET exclude each other without PROBE.',
    refuses('GET and SET', request.feature(GET | SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, Buffer.alloc(8))),
  ),
  rule(
    'unknown-flags',
    'Flags that linux/vfio.h does not define are refused.',
    refuses('flag 1 << 20', request.feature(PROBE | GET | (1 << 20) | VFIO_DEVICE_FEATURE_MIGRATION)),
    'linux/vfio.h, vfio_device_feature',
  ),
  rule(
    'probe-repeats',
    'The reply to PROBE is the payload of the request.',
    probes(VFIO_DEVICE_FEATURE_MIGRATION, GET),
  ),
  rule(
    'probe-state-get',
    'PROBE with GET finds a feature that can be read.',
    probes(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, GET),
  ),
  rule(
    'probe-state-set',
    'PROBE with SET finds a feature that can be set.',
    probes(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, SET),
  ),
  rule(
    'probe-state-both',
    'PROBE with GET and SET finds a feature that can do both.',
    probes(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, GET | SET),
  ),
  rule(
    'probe-alone',
    'PROBE without a method asks whether the feature is there.',
    probes(VFIO_DEVICE_FEATURE_MIGRATION, 0),
  ),
  rule(
    'probe-too-much',
    'PROBE fails where one of the methods is not there: SET of MIGRATION.',
    refusesMigration('SET of MIGRATION, probed', request.feature(PROBE | GET | SET | VFIO_DEVICE_FEATURE_MIGRATION)),
  ),
  rule(
    'set-of-a-read-only-feature',
    'A feature that can only be read cannot be set.',
    refusesMigration('SET of MIGRATION', request.feature(SET | VFIO_DEVICE_FEATURE_MIGRATION, Buffer.alloc(8))),
  ),
  rule('get-adds-its-data', 'The reply to GET has the data behind the struct, and argsz counts them.', (t) => {
    const { payload, view } = migrating(t).ok(FEATURE, request.feature(GET | VFIO_DEVICE_FEATURE_MIGRATION));
    demand(payload.length === 16, `the reply has ${payload.length} bytes`);
    demand(view.getUint32(0, true) === 16, `argsz is ${view.getUint32(0, true)}`);
  }),
  rule('get-repeats-the-flags', 'The reply to GET has the flags of the request.', (t) => {
    const flags = GET | VFIO_DEVICE_FEATURE_MIGRATION;
    const { view } = migrating(t).ok(FEATURE, request.feature(flags));
    demand(view.getUint32(4, true) === flags, `the flags are 0x${view.getUint32(4, true).toString(16)}`);
  }),
  rule(
    'get-without-room',
    'A reply is never longer than argsz: without room for the data, GET fails or has none.',
    (t) => {
      const peer = migrating(t);
      const { payload } = peer.call(
        FEATURE,
        request.feature(GET | VFIO_DEVICE_FEATURE_MIGRATION, new Uint8Array(0), 8),
      );
      demand(payload.length <= 8, `${payload.length} bytes for argsz 8`);
      t.stillServes(peer);
    },
  ),
  rule(
    'set-without-data',
    'SET without its data is refused.',
    refusesMigration(
      'SET of 0 bytes',
      request.feature(SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, new Uint8Array(0), 8),
    ),
  ),
  rule(
    'set-with-half-of-its-data',
    'SET with half of its data is refused.',
    refusesMigration(
      'SET of 4 bytes',
      request.feature(SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, Buffer.from([1, 0, 0, 0]), 12),
    ),
  ),
  rule('argsz-largest', 'A client that offers 4 GiB of room is answered, or refused.', (t) => {
    const peer = t.ready();
    peer.call(FEATURE, request.feature(GET | VFIO_DEVICE_FEATURE_MIGRATION, new Uint8Array(0), 0xffff_ffff));
    t.stillServes(peer);
  }),
  rule('logging-is-probed-alike', 'PROBE answers alike, however often it is asked.', (t) => {
    const peer = t.ready();
    const asked = request.feature(PROBE | SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
    const [first, second] = [0, 1].map(() => peer.call(FEATURE, asked).failed);
    demand(first === second, 'PROBE of DMA_LOGGING_START changes its answer');
  }),
];
