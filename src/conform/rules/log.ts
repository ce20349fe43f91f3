/** Logging of the pages that a device writes. */
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  vfio_device_feature_dma_logging_range,
} from '../../abi/vfio-feature.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DMA_MAP,
  vfio_user_device_feature_dma_logging_control,
  vfio_user_device_feature_dma_logging_report,
} from '../../abi/vfio-user.ts';
import type { RawPeer } from '../peer.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs, unclear } from '../verdict.ts';

const rule = rulesOf('log', 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START / STOP / REPORT');
const FEATURE = VFIO_USER_DEVICE_FEATURE;
const PAGE = 4096;
const AT = 0x40_0000;
const SIZE = 64 * PAGE;
const REPORT_HEAD = 8 + vfio_user_device_feature_dma_logging_report.sizeof;

interface Start {
  pageSize?: request.U64;
  ranges?: { iova: request.U64; length: request.U64 }[];
  count?: number;
}

function start({ pageSize = PAGE, ranges = [{ iova: AT, length: SIZE }], count = ranges.length }: Start = {}): Buffer {
  const head = vfio_user_device_feature_dma_logging_control.encode({ page_size: pageSize, num_ranges: count });
  const each = ranges.map((range) => vfio_device_feature_dma_logging_range.encode(range));
  const data = Buffer.concat([head, ...each]);
  return request.feature(VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, data, 8 + data.length);
}

const stop = () =>
  request.feature(VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, new Uint8Array(0), 8);

function report(
  iova: request.U64 = AT,
  length: request.U64 = SIZE,
  pageSize: request.U64 = PAGE,
  argsz?: number,
): Buffer {
  const data = vfio_user_device_feature_dma_logging_report.encode({ iova, length, page_size: pageSize });
  return request.feature(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, data, argsz);
}

/** A client with a region, of a device that logs. */
function logging(t: Trial, begin = true): RawPeer {
  needs(t.facts.logging, 'the device does not log');
  const peer = t.ready();
  peer.ok(VFIO_USER_DMA_MAP, request.dmaMap({ addr: AT, size: SIZE }), { fds: [t.memfd(SIZE).fd] });
  if (begin) peer.ok(FEATURE, start());
  return peer;
}

const refusesBefore = refusalsOf(FEATURE, (t) => logging(t, false));
const refusesMeanwhile = refusalsOf(FEATURE, (t) => logging(t));

function probed(feature: number, method: number) {
  return (t: Trial) => {
    needs(t.facts.logging, 'the device does not log');
    t.ready().ok(FEATURE, request.feature(VFIO_DEVICE_FEATURE_PROBE | method | feature, new Uint8Array(0), 8));
  };
}

export const LOG_RULES = [
  rule(
    'probe-start',
    'A device that logs says so of START.',
    probed(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET),
  ),
  rule(
    'probe-stop',
    'A device that logs says so of STOP.',
    probed(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_SET),
  ),
  rule(
    'probe-report',
    'A device that logs says so of REPORT.',
    probed(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET),
  ),
  rule('start', 'The reply to START is the request, with the page size that the device chose.', (t) => {
    const { payload } = logging(t, false).ok(FEATURE, start());
    demand(payload.length === start().length, `the reply has ${payload.length} bytes`);
    const chosen = payload.readBigUint64LE(8);
    demand(chosen > 0n && (chosen & (chosen - 1n)) === 0n, `the page size is ${chosen}`);
  }),
  rule('start-everywhere', 'START without ranges logs all writes.', (t) => {
    logging(t, false).ok(FEATURE, start({ ranges: [] }));
  }),
  rule('start-two-ranges', 'START takes several ranges.', (t) => {
    const half = SIZE / 2;
    logging(t, false).ok(
      FEATURE,
      start({
        ranges: [
          { iova: AT, length: half },
          { iova: AT + half, length: half },
        ],
      }),
    );
  }),
  rule('start-stop', 'Logging that began can end, and begin again.', (t) => {
    const peer = logging(t);
    peer.ok(FEATURE, stop());
    peer.ok(FEATURE, start());
  }),
  rule(
    'report-before-start',
    'A report is only valid while the device logs.',
    refusesBefore('a report before START', report()),
  ),
  rule('report-after-stop', 'After STOP there is no report.', (t) => {
    const peer = logging(t);
    peer.ok(FEATURE, stop());
    peer.refused('a report after STOP', FEATURE, report());
  }),
  rule(
    'start-twice',
    'Logging that has begun cannot begin.',
    refusesMeanwhile('the second START', start()),
    'linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_START',
  ),
  rule('stop-before-start', 'The text does not say what STOP is while nothing is logged.', (t) => {
    const reply = logging(t, false).call(FEATURE, stop());
    unclear(reply.failed ? 'it is refused' : 'it succeeds');
  }),
  rule('clean', 'What the device did not write is not in the report.', (t) => {
    const { payload } = logging(t).ok(FEATURE, report());
    demand(
      payload.subarray(REPORT_HEAD).every((byte) => byte === 0),
      `the bitmap is ${payload.subarray(REPORT_HEAD).toString('hex')}`,
    );
  }),
  rule('bitmap-size', 'A report has a bit for each page, in whole words of 64 bits.', (t) => {
    const { payload } = logging(t).ok(FEATURE, report());
    const bytes = payload.length - REPORT_HEAD;
    demand(bytes === 8, `${bytes} bytes for 64 pages`);
  }),
  rule('bitmap-of-one-page', 'A report of a single page has a word.', (t) => {
    const { payload } = logging(t).ok(FEATURE, report(AT, PAGE));
    demand(payload.length - REPORT_HEAD === 8, `${payload.length - REPORT_HEAD} bytes for a page`);
  }),
  rule('report-repeats', 'A report repeats address, length and page size of the request.', (t) => {
    const { payload } = logging(t).ok(FEATURE, report());
    demand(
      payload.subarray(8, REPORT_HEAD).equals(report().subarray(8, REPORT_HEAD)),
      `the reply is ${payload.toString('hex')}`,
    );
  }),
  rule('report-argsz', 'argsz of a report counts its bitmap.', (t) => {
    const { payload, view } = logging(t).ok(FEATURE, report());
    demand(view.getUint32(0, true) === payload.length, `argsz ${view.getUint32(0, true)}, and ${payload.length} bytes`);
  }),
  rule('larger-pages', 'A report may ask for larger pages than those that are logged.', (t) => {
    const { payload } = logging(t).ok(FEATURE, report(AT, SIZE, 16 * PAGE));
    demand(payload.length - REPORT_HEAD === 8, `${payload.length - REPORT_HEAD} bytes for 4 pages`);
  }),
  rule(
    'page-size-3000',
    'The page size of a report is a power of two.',
    refusesMeanwhile('a page size of 3000', report(AT, SIZE, 3000)),
  ),
  rule('page-size-0', 'The page size of a report is not 0.', refusesMeanwhile('a page size of 0', report(AT, SIZE, 0))),
  rule(
    'length-0',
    'A report of nothing is refused.',
    refusesMeanwhile('a length of 0', report(AT, 0)),
    'linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT',
  ),
  rule(
    'report-wraps',
    'A report whose end wraps around 2^64 is refused.',
    refusesMeanwhile('a range that wraps', report((1n << 64n) - 4096n, 8192n)),
  ),
  rule('report-too-large', 'A report whose bitmap fits no message is not sent.', (t) => {
    const peer = logging(t);
    const reply = peer.call(FEATURE, report(0, 1n << 50n));
    demand(reply.failed || reply.payload.length <= 8192, `${reply.payload.length} bytes came`);
    t.stillServes(peer);
  }),
  rule('report-without-room', 'A report is never longer than argsz.', (t) => {
    const { payload } = logging(t).call(FEATURE, report(AT, SIZE, PAGE, REPORT_HEAD));
    demand(payload.length <= REPORT_HEAD, `${payload.length} bytes for argsz ${REPORT_HEAD}`);
  }),
  rule(
    'report-short',
    'A report without its struct is refused.',
    refusesMeanwhile('a report of 8 bytes', report().subarray(0, 8)),
  ),
  rule(
    'more-ranges-than-came',
    'START with fewer ranges than it counts is refused.',
    refusesBefore('a count of 3 with 1 range', start({ count: 3 })),
  ),
  rule(
    'ranges-largest',
    'START that counts 2^32 - 1 ranges is refused.',
    refusesBefore('a count of 2^32 - 1', start({ count: 0xffff_ffff })),
  ),
  rule(
    'range-wraps',
    'A range to log that wraps around 2^64 is refused.',
    refusesBefore('a range that wraps', start({ ranges: [{ iova: (1n << 64n) - 4096n, length: 8192n }] })),
  ),
  rule(
    'ends-with-the-client',
    'Logging ends with its client: the next one may begin.',
    (t) => {
      logging(t);
      t.successorOf({}).ok(FEATURE, start({ ranges: [] }));
    },
    'Client Disconnection',
  ),
  rule('survives-a-reset', 'The text does not say whether a reset ends logging.', (t) => {
    const peer = logging(t);
    peer.ok(VFIO_USER_DEVICE_RESET);
    unclear(peer.call(FEATURE, report()).failed ? 'it ends' : 'it goes on');
  }),
];
