/** VERSION: the first message, its JSON, and what both sides may propose. */
import { VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_VERSION } from '../../abi/vfio-user.ts';
import { isUnixStreamSocket } from '../../linux/socket.ts';
import { PROPOSAL } from '../facts.ts';
import type { Incoming } from '../peer.ts';
import * as request from '../requests.ts';
import { rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { broken, demand, needs, unclear } from '../verdict.ts';

const rule = rulesOf('version', 'VFIO_USER_VERSION');
const VERSION = VFIO_USER_VERSION;

/** The server agrees to this payload. */
function agreesTo(payload: Uint8Array) {
  return (t: Trial) => {
    const peer = t.raw();
    peer.ok(VERSION, payload);
    t.stillServes(peer);
  };
}

/** The server answers this payload, well or with an error, or hangs up; the engine sees whether it goes on. */
function survives(payload: Uint8Array) {
  return (t: Trial) => {
    const peer = t.raw();
    peer.command(VERSION, payload);
    peer.answersOrEnds('such a VERSION');
  };
}

function refuses(payload: Uint8Array, what: string) {
  return (t: Trial) => {
    const peer = t.raw();
    peer.command(VERSION, payload);
    peer.refusesOrEnds(what);
  };
}

/** The object `capabilities` of a reply; empty where it has none. */
function capabilitiesOf({ payload }: { payload: Buffer }): Record<string, unknown> {
  if (payload.length <= 4) return {};
  const end = payload.indexOf(0, 4);
  demand(end >= 0, 'the JSON of the reply has no terminating zero');
  let json: { capabilities?: Record<string, unknown> };
  try {
    json = JSON.parse(payload.toString('utf8', 4, end));
  } catch {
    return broken(`the reply's JSON cannot be parsed: ${payload.toString('utf8', 4, end)}`);
  }
  return json.capabilities ?? {};
}

function hasType(name: string, type: string) {
  return (t: Trial) => {
    const value = capabilitiesOf({ payload: t.facts.version })[name];
    needs(value !== undefined, `the server does not name ${name}`);
    demand(typeof value === type && value !== null, `${name} is ${JSON.stringify(value)}`);
  };
}

function agreed(t: Trial, payload: Uint8Array): Incoming {
  return t.raw().ok(VERSION, payload);
}

const EVERY_KIND = JSON.stringify({ capabilities: { ...PROPOSAL, new_thing: { a: [1, null, true] } }, other: 'x' });
const WRONG_TYPES = JSON.stringify({ capabilities: { max_msg_fds: 'many', pgsizes: [], max_data_xfer_size: null } });
const HUGE = '{"capabilities":{"max_data_xfer_size":18446744073709551616,"max_dma_maps":1e300,"max_msg_fds":-1}}';
const TWICE = '{"capabilities":{"max_msg_fds":1,"max_msg_fds":2},"capabilities":{"max_msg_fds":3}}';

export const VERSION_RULES = [
  rule('major-is-the-same', 'The reply has the major version that the client proposed.', (t) => {
    const { view } = agreed(t, request.proposal({}));
    demand(view.getUint16(0, true) === 0, `the major version is ${view.getUint16(0, true)}`);
  }),
  rule('minor-is-not-higher', 'The minor version of the reply is at most the proposed one.', (t) => {
    const { view } = agreed(t, request.version('{}', 0, 0));
    demand(view.getUint16(2, true) === 0, `0.${view.getUint16(2, true)} in reply to 0.0`);
  }),
  rule('minor-1', 'A client that proposes 0.1 gets 0.1 or 0.0.', (t) => {
    const { view } = agreed(t, request.version('{}', 0, 1));
    demand(view.getUint16(2, true) <= 1, `0.${view.getUint16(2, true)} in reply to 0.1`);
  }),
  rule('minor-largest', 'The lower minor version counts: a client of a much newer one is served.', (t) => {
    agreed(t, request.version('{}', 0, 0xffff));
  }),
  rule(
    'major-unknown',
    'A major version that the server lacks is not agreed to.',
    refuses(request.version('{}', 1, 0), 'major version 1'),
  ),
  rule(
    'major-largest',
    'A major version that the server lacks is not agreed to: 65535.',
    refuses(request.version('{}', 0xffff, 0), 'major version 65535'),
  ),
  rule('no-json', 'The JSON may be missing.', agreesTo(request.version(null))),
  rule('empty-json', 'The JSON may be an empty object.', agreesTo(request.version('{}'))),
  rule('empty-capabilities', 'The capabilities may be empty.', agreesTo(request.proposal({}))),
  rule('qemu', "The proposal of QEMU's client is agreed to.", agreesTo(request.proposal(PROPOSAL))),
  rule(
    'whitespace',
    'JSON may contain white space.',
    agreesTo(request.version('{ \n\t"capabilities" : { "max_msg_fds" : 8 } }')),
  ),
  rule(
    'unknown-capability',
    'A capability that the server does not know is left alone.',
    agreesTo(request.version(EVERY_KIND)),
  ),
  rule('reply-has-a-terminating-zero', 'The JSON of the reply ends with a zero byte.', (t) => {
    const { payload } = agreed(t, request.proposal(PROPOSAL));
    demand(payload.length === 4 || payload.at(-1) === 0, 'the last byte of the reply is not zero');
  }),
  rule('reply-is-json', 'The reply carries a JSON object that can be parsed.', (t) => {
    capabilitiesOf(agreed(t, request.proposal(PROPOSAL)));
  }),
  rule('reply-has-a-version', 'The reply has at least the two version numbers.', (t) => {
    const { payload } = agreed(t, request.proposal({}));
    demand(payload.length >= 4, `the reply has ${payload.length} bytes`);
  }),
  rule('max-msg-fds-is-a-number', 'max_msg_fds is a number.', hasType('max_msg_fds', 'number')),
  rule('max-data-xfer-size-is-a-number', 'max_data_xfer_size is a number.', hasType('max_data_xfer_size', 'number')),
  rule('max-dma-maps-is-a-number', 'max_dma_maps is a number.', hasType('max_dma_maps', 'number')),
  rule('pgsizes-is-a-number', 'pgsizes is a number.', hasType('pgsizes', 'number')),
  rule('write-multiple-is-a-boolean', 'write_multiple is a boolean.', hasType('write_multiple', 'boolean')),
  rule('limits-are-positive', 'A limit that the server names leaves room for one at least.', (t) => {
    const { maxMsgFds, maxDataXferBytes, maxDmaMaps } = t.facts.limits;
    demand(maxDataXferBytes > 0, `max_data_xfer_size is ${maxDataXferBytes}`);
    demand(maxDmaMaps > 0 && maxMsgFds >= 0, `max_dma_maps is ${maxDmaMaps}, max_msg_fds ${maxMsgFds}`);
  }),
  rule(
    'write-multiple-unasked',
    'A feature that the client did not propose is not in the reply: write_multiple.',
    (t) => {
      const said = capabilitiesOf(agreed(t, request.proposal({ max_msg_fds: 1 })));
      demand(said.write_multiple !== true, 'the reply has write_multiple');
    },
  ),
  rule('twin-socket-unasked', 'The server opens a twin socket only for a client that proposed it.', (t) => {
    const { fds, payload } = agreed(t, request.proposal({ max_msg_fds: 8 }));
    const twin = capabilitiesOf({ payload }).twin_socket as { supported?: boolean } | undefined;
    demand(twin?.supported !== true && fds.length === 0, `the reply has a twin socket and ${fds.length} descriptors`);
  }),
  rule('twin-socket-not-supported', 'A client that proposes twin_socket.supported false gets none.', (t) => {
    const { fds, payload } = agreed(t, request.proposal({ max_msg_fds: 8, twin_socket: { supported: false } }));
    const twin = capabilitiesOf({ payload }).twin_socket as { supported?: boolean } | undefined;
    demand(twin?.supported !== true && fds.length === 0, `the reply has a twin socket and ${fds.length} descriptors`);
  }),
  rule('twin-socket', 'A twin socket comes with the reply, at the index that the reply names.', (t) => {
    const { fds, payload } = agreed(t, request.proposal({ max_msg_fds: 8, twin_socket: { supported: true } }));
    const twin = capabilitiesOf({ payload }).twin_socket as { supported?: boolean; fd_index?: number } | undefined;
    needs(twin?.supported === true, 'the server offers no twin socket');
    const fd = typeof twin.fd_index === 'number' ? fds[twin.fd_index] : undefined;
    demand(fd !== undefined, `fd_index is ${twin.fd_index}, and ${fds.length} descriptors came`);
    demand(isUnixStreamSocket(fd.fd), 'the descriptor is not a socket');
  }),
  rule(
    'limits-unasked',
    'The list of the reply is to be a subset of the proposed one; the text does not say whether limits count.',
    (t) => {
      const names = Object.keys(capabilitiesOf(agreed(t, request.proposal({}))));
      unclear(names.length === 0 ? 'the reply names none' : `the reply names ${names.join(', ')}`);
    },
  ),
  rule('no-descriptors', 'Without a twin socket the reply brings no descriptors.', (t) => {
    const { fds } = agreed(t, request.proposal(PROPOSAL));
    demand(fds.length === 0, `${fds.length} descriptors came`);
  }),
  rule('comes-first', 'VERSION is the first message: another one before it is not served.', (t) => {
    const peer = t.raw();
    peer.command(VFIO_USER_DEVICE_GET_INFO, request.deviceInfo());
    peer.refusesOrEnds('DEVICE_GET_INFO before VERSION');
  }),
  rule('comes-once', 'VERSION is the initial message; the text does not say what a second one means.', (t) => {
    const peer = t.ready();
    peer.command(VERSION, request.proposal({}));
    const reply = peer.answersOrEnds('a second VERSION');
    unclear(reply === null ? 'the connection ends' : reply.failed ? 'it is refused' : 'it is agreed to again');
  }),
  rule('empty', 'A VERSION without its numbers is refused.', refuses(Buffer.alloc(0), 'a VERSION without payload')),
  rule('half', 'A VERSION with half of its numbers is refused.', refuses(Buffer.alloc(2), 'a VERSION of 2 bytes')),
  rule(
    'no-terminating-zero',
    'JSON without its terminating zero does not end the server.',
    survives(request.version('{"capabilities":{"max_msg_fds":8}}').subarray(0, -1)),
  ),
  rule(
    'not-json',
    'Text that is not JSON is refused.',
    refuses(request.version('{"capabilities":'), 'half of a JSON object'),
  ),
  rule(
    'json-array',
    'JSON other than an object is refused, or taken for no capabilities.',
    survives(request.version('[1,2,3]')),
  ),
  rule('json-number', 'JSON that is a number does not end the server.', survives(request.version('7'))),
  rule(
    'capabilities-of-wrong-type',
    'Capabilities that are not an object do not end the server.',
    survives(request.version('{"capabilities":"all"}')),
  ),
  rule('values-of-wrong-types', 'Values of wrong types do not end the server.', survives(request.version(WRONG_TYPES))),
  rule('huge-numbers', 'Numbers beyond 64 bits and below zero do not end the server.', survives(request.version(HUGE))),
  rule('names-twice', 'A name that comes twice does not end the server.', survives(request.version(TWICE))),
  rule(
    'deep',
    'JSON of a thousand levels does not end the server.',
    survives(request.version(`${'['.repeat(1000)}${']'.repeat(1000)}`)),
  ),
  rule(
    'long',
    'JSON of 64 KiB does not end the server.',
    survives(request.version(JSON.stringify({ capabilities: { x: 'y'.repeat(65536) } }))),
  ),
  rule(
    'invalid-utf-8',
    'JSON is UTF-8; other bytes do not end the server.',
    survives(
      Buffer.concat([Buffer.alloc(4), Buffer.from('{"a":"'), Buffer.from([0xff, 0xfe, 0xc0]), Buffer.from('"}\0')]),
    ),
  ),
  rule('pgsizes-0', 'A client without page sizes does not end the server.', survives(request.proposal({ pgsizes: 0 }))),
  rule(
    'max-data-xfer-size-0',
    'A limit of 0 bytes does not end the server.',
    survives(request.proposal({ max_data_xfer_size: 0 })),
  ),
  rule('max-msg-fds-0', 'A client that takes no descriptors gets none, with any region.', fewDescriptors(0)),
  rule(
    'max-msg-fds-1',
    'A client that takes one descriptor in a message gets no more, with any region.',
    fewDescriptors(1),
  ),
];

/** Asks for every region as a client that takes `most` descriptors. */
function fewDescriptors(most: number) {
  return (t: Trial) => {
    const peer = t.agreed({ max_msg_fds: most });
    for (const { index } of t.facts.regions) {
      const { fds } = peer.call(VFIO_USER_DEVICE_GET_REGION_INFO, request.regionInfo(index));
      demand(fds.length <= most, `region ${index} brought ${fds.length} descriptors`);
    }
  };
}
