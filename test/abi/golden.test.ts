import assert from 'node:assert/strict';
import { env } from 'node:process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as aio from '../../src/abi/aio.ts';
import * as dmaBuf from '../../src/abi/dma-buf.ts';
import * as drm from '../../src/abi/drm.ts';
import { ERRNO } from '../../src/abi/errno.ts';
import * as fcntl from '../../src/abi/fcntl.ts';
import * as iommufd from '../../src/abi/iommufd.ts';
import { Struct } from '../../src/abi/layout.ts';
import * as mman from '../../src/abi/mman.ts';
import * as pciRegs from '../../src/abi/pci_regs.ts';
import * as poll from '../../src/abi/poll.ts';
import * as socket from '../../src/abi/socket.ts';
import * as vfio from '../../src/abi/vfio.ts';
import * as vfioFeature from '../../src/abi/vfio-feature.ts';
import * as type1 from '../../src/abi/vfio-type1.ts';
import * as vfioUser from '../../src/abi/vfio-user.ts';
import * as virtio from '../../src/abi/virtio.ts';
import * as virtioGpu from '../../src/abi/virtio_gpu.ts';
import * as virtioPci from '../../src/abi/virtio_pci.ts';
import { askCompiler, hasCompiler } from './c-compiler.ts';

/**
 * Compares everything in src/abi with a C compiler: each constant's value, each struct's size, each field's offset. It
 * first asks this machine's kernel headers; newer.h must have whatever they are too old for. UAPI_INCLUDE names a newer
 * set of headers (the include folder of a linux-libc-dev package).
 */
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const HOST = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <sys/syscall.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/pci_regs.h>
#include <linux/sync_file.h>
#include <linux/types.h>
#include <linux/udmabuf.h>
#include <linux/vfio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_gpu.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif
#if __has_include(<drm/drm.h>)
#include <drm/drm.h>
#include <drm/drm_fourcc.h>
#undef DRM_IOCTL_BASE
#define DRM_IOCTL_BASE 0x64
#endif`;

/** Names that C headers do not declare: their declarations here are derived, renamed or described in prose. */
const OURS = new Set([
  'PAGE_SIZE',
  'VF_TOKEN_SIZE',
  'SUN_PATH_MAX',
  'SCM_MAX_FD',
  'vf_token',
  'dma_heap_allocation_data.pad',
  'PCI_VENDOR_ID_REDHAT_QUMRANET',
  'VIRTIO_PCI_ISR_QUEUE',
  'VIRTIO_PCI_MODERN_DEVICE_ID',
  'VRING_USED_RING_OFFSET',
]);

type Expectation = Map<string, bigint>;

/** The C expressions that the exports of a module must agree with. */
function expectations(module: Record<string, unknown>): Expectation {
  const out: Expectation = new Map();
  for (const [name, value] of Object.entries(module)) {
    if (OURS.has(name)) continue;
    if (typeof value === 'number') out.set(name, BigInt(value));
    if (!(value instanceof Struct)) continue;
    out.set(`sizeof(struct ${value.name})`, BigInt(value.sizeof));
    for (const [key, field] of Object.entries(value.fields)) {
      if (/^pad\d?$/.test(key)) continue; // tail padding has no name in older headers or in libc
      const member = key.replace(/^header_/, 'header.');
      out.set(`offsetof(struct ${value.name}, ${member})`, BigInt(field.offset));
    }
  }
  return out;
}

/** Compares the low 32 bits if this code holds a mask that C computes in a wider or signed type. */
const same = (ours: bigint, theirs: bigint) =>
  ours === theirs || BigInt.asUintN(32, ours) === BigInt.asUintN(32, theirs);

function compare(expected: Expectation, answers: Map<string, bigint | undefined>, missing: string[]): string[] {
  const wrong: string[] = [];
  for (const [expression, ours] of expected) {
    const theirs = answers.get(expression);
    if (theirs === undefined) missing.push(expression);
    else if (!same(ours, theirs)) wrong.push(`${expression}: ${ours} here, ${theirs} in C`);
  }
  return wrong;
}

const skip = !hasCompiler() && env.CI === undefined ? 'no C compiler on this machine' : false;

test('constants and layouts agree with the C headers', { skip }, () => {
  const files = [aio, dmaBuf, fcntl, iommufd, mman, pciRegs, poll, socket, vfio, vfioFeature, type1, ERRNO];
  const kernel = [...files, drm, virtio, virtioGpu, virtioPci];
  const expected: Expectation = new Map(kernel.flatMap((m) => [...expectations(m)]));
  assert.ok(expected.size > 900, `only ${expected.size} expressions: did an export vanish?`);
  const include = env.UAPI_INCLUDE === undefined ? [] : ['-isystem', env.UAPI_INCLUDE];
  const missing: string[] = [];
  // Values that have changed since older headers. newer.h has today's.
  const grown = new Set(['sizeof(struct vfio_device_info)', 'PCI_CAP_EXP_ENDPOINT_SIZEOF_V2', 'PCI_REBAR_CAP_SIZES']);
  const host = askCompiler(
    HOST,
    [...expected.keys()].filter((e) => !grown.has(e)),
    include,
  );
  assert.deepEqual(compare(expected, host, missing), []);

  const newer = askCompiler(`#include "${here('newer.h')}"`, missing);
  const nowhere: string[] = [];
  assert.deepEqual(compare(new Map(missing.map((e) => [e, expected.get(e)!])), newer, nowhere), []);
  assert.deepEqual(nowhere, [], 'in neither the host headers nor newer.h');
});

test('vfio-user structs agree with C', { skip }, () => {
  const structs = Object.fromEntries(Object.entries(vfioUser).filter(([, v]) => v instanceof Struct));
  const expected = expectations(structs);
  const missing: string[] = [];
  const answers = askCompiler(`#include "${here('vfio-user.h')}"`, [...expected.keys()]);
  assert.deepEqual(compare(expected, answers, missing), []);
  assert.deepEqual(missing, []);
});

test('the comparison notices a wrong value', { skip }, () => {
  const answers = askCompiler(HOST, ['PCI_COMMAND_MEMORY', 'NO_SUCH_NAME']);
  const missing: string[] = [];
  const wrong = compare(
    new Map([
      ['PCI_COMMAND_MEMORY', 4n],
      ['NO_SUCH_NAME', 1n],
    ]),
    answers,
    missing,
  );
  assert.deepEqual(wrong, ['PCI_COMMAND_MEMORY: 4 here, 2 in C']);
  assert.deepEqual(missing, ['NO_SUCH_NAME']);
});
