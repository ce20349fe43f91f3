import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRNO, Errno } from '../../../src/abi/errno.ts';
import * as abi from '../../../src/abi/vfio.ts';
import * as featureAbi from '../../../src/abi/vfio-feature.ts';
import {
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
} from '../../../src/abi/vfio-type1.ts';
import { createEventfd } from '../../../src/linux/eventfd.ts';
import type { Pinned } from '../../../src/linux/ffi.ts';
import type { IoctlCall } from '../../../src/linux/ioctl.ts';
import { createMemfd } from '../../../src/linux/memfd.ts';
import { infoCapabilities } from '../../../src/linux/vfio/caps.ts';
import { openGroup, Type1Container, VfioGroup } from '../../../src/linux/vfio/container.ts';
import { VfioDevice } from '../../../src/linux/vfio/device.ts';
import {
  deviceFeature,
  deviceFeatureRaw,
  encodeDmaBufRequest,
  exportDmaBuf,
  hasFeature,
  lowPowerEntryWithWakeup,
  setVfToken,
} from '../../../src/linux/vfio/feature.ts';
import { hotReset, hotResetInfo } from '../../../src/linux/vfio/hot-reset.ts';
import { leavesNoFds } from '../open-fds.ts';

/**
 * Functions play the kernel's side of the ioctls, and get the memory that the real kernel would get. The device's file
 * is a memfd, so reads, writes and maps of regions are real. test/lab runs the same API on a real kernel.
 */
type Handlers = Record<number, (argument: Pinned) => number>;

const PAGE = 4096;
const BAR_AT = 2 * PAGE;

function playKernel(handlers: Handlers): { call: IoctlCall; calls: number[] } {
  const calls: number[] = [];
  const call: IoctlCall = (_fd, request, argument) => {
    calls.push(request);
    const handler = handlers[request];
    if (handler === undefined) return -ERRNO.ENOTTY;
    return handler(argument as Pinned);
  };
  return { call, calls };
}

/** Region info as a kernel returns it: the short form first, in which argsz gives the size with the capabilities. */
function regionInfoHandler(argument: Pinned): number {
  const { view, bytes } = argument;
  const index = abi.vfio_region_info.fields.index.get(view);
  if (index > 8) return -ERRNO.EINVAL;
  const flags = abi.VFIO_REGION_INFO_FLAG_READ | abi.VFIO_REGION_INFO_FLAG_WRITE | abi.VFIO_REGION_INFO_FLAG_MMAP;
  const full = 32 + 16 + 2 * 16 + 8;
  const short = bytes.length < full;
  abi.vfio_region_info.write(view, 0, {
    argsz: full,
    flags: flags | abi.VFIO_REGION_INFO_FLAG_CAPS,
    cap_offset: short ? 0 : 32,
    size: 2 * PAGE,
    offset: BAR_AT,
  });
  if (short) return 0;
  abi.vfio_region_info_cap_sparse_mmap.write(view, 32, {
    header_id: abi.VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    header_version: 1,
    header_next: 80,
    nr_areas: 2,
  });
  abi.vfio_region_sparse_mmap_area.write(view, 48, { offset: 0, size: 1024 });
  abi.vfio_region_sparse_mmap_area.write(view, 64, { offset: PAGE, size: PAGE });
  abi.vfio_info_cap_header.write(view, 80, { id: abi.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version: 1 });
  return 0;
}

function withDevice(handlers: Handlers, body: (device: VfioDevice, calls: number[]) => void): void {
  leavesNoFds(() => {
    const { call, calls } = playKernel({ [abi.VFIO_DEVICE_GET_REGION_INFO]: regionInfoHandler, ...handlers });
    const device = new VfioDevice(createMemfd('device', 4 * PAGE), '0000:01:00.0', {}, call);
    try {
      body(device, calls);
    } finally {
      device.close();
    }
  });
}

test('info and irq info carry argsz and come back', () => {
  const handlers: Handlers = {
    [abi.VFIO_DEVICE_GET_INFO]: ({ view }) => {
      assert.equal(abi.vfio_device_info.fields.argsz.get(view), 24);
      abi.vfio_device_info.write(view, 0, { flags: 3, num_regions: 9, num_irqs: 5 });
      return 0;
    },
    [abi.VFIO_DEVICE_GET_IRQ_INFO]: ({ view }) => {
      const index = abi.vfio_irq_info.fields.index.get(view);
      if (index >= 5) return -ERRNO.EINVAL;
      abi.vfio_irq_info.write(view, 0, { flags: abi.VFIO_IRQ_INFO_EVENTFD, count: index + 1 });
      return 0;
    },
  };
  withDevice(handlers, (device) => {
    assert.deepEqual(device.info(), { flags: 3, numRegions: 9, numIrqs: 5 });
    assert.deepEqual(device.irqInfo(2), { flags: 1, count: 3 });
    assert.throws(() => device.irqInfo(5), /EINVAL: VFIO_DEVICE_GET_IRQ_INFO\(5\) on 0000:01:00.0/);
  });
});

test('region info is asked again for its capabilities, and its offset is where reads, writes and maps go', () => {
  withDevice({}, (device, calls) => {
    const info = device.regionInfo(0);
    assert.deepEqual(info.sparseAreas, [
      { offset: 0, sizeBytes: 1024 },
      { offset: PAGE, sizeBytes: PAGE },
    ]);
    assert.equal(info.msixMappable, true);
    assert.equal(info.sizeBytes, 2 * PAGE);
    assert.deepEqual(calls, [abi.VFIO_DEVICE_GET_REGION_INFO, abi.VFIO_DEVICE_GET_REGION_INFO]);

    assert.equal(device.writeRegion(0, 4, Buffer.from('bar!')), 4);
    const back = Buffer.alloc(4);
    assert.equal(device.readRegion(0, 4, back), 4);
    assert.equal(back.toString(), 'bar!');
    const map = device.mapRegion(0, 0, PAGE);
    assert.equal(Buffer.from(map.bytes.subarray(4, 8)).toString(), 'bar!');
    map.unmap();
    assert.throws(() => device.regionInfo(9), /EINVAL: VFIO_DEVICE_GET_REGION_INFO\(9\)/);
  });
});

test('a chain of capabilities that leads out or around is refused', () => {
  const view = new DataView(new ArrayBuffer(64));
  abi.vfio_info_cap_header.write(view, 32, { id: 1, version: 1, next: 48 });
  abi.vfio_info_cap_header.write(view, 48, { id: 3, version: 1, next: 0 });
  assert.deepEqual(
    infoCapabilities(view, 32, 64).map((c) => c.id),
    [1, 3],
  );
  assert.deepEqual(infoCapabilities(view, 0, 64), []);
  abi.vfio_info_cap_header.fields.next.set(view, 48, 32);
  assert.throws(() => infoCapabilities(view, 32, 64), /EPROTO: capability chain leads to 32 of 64 bytes again/);
  abi.vfio_info_cap_header.fields.next.set(view, 48, 60);
  assert.throws(() => infoCapabilities(view, 32, 64), /EPROTO: capability chain leads to 60/);
});

test('SET_IRQS puts flags, range and eventfds behind each other', () => {
  const seen: Buffer[] = [];
  const record = ({ bytes }: Pinned) => seen.push(Buffer.from(bytes)) * 0;
  withDevice({ [abi.VFIO_DEVICE_SET_IRQS]: record, [abi.VFIO_DEVICE_RESET]: () => -ERRNO.EINVAL }, (device) => {
    device.setIrqEventfds(abi.VFIO_IRQ_SET_ACTION_TRIGGER, abi.VFIO_PCI_MSIX_IRQ_INDEX, 3, [7, -1]);
    assert.equal(seen[0].toString('hex'), '1c000000240000000200000003000000020000000700' + '0000ffffffff');
    device.setIrqs(abi.VFIO_IRQ_SET_DATA_NONE | abi.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, 0);
    assert.equal(seen[1].length, 20);
    assert.throws(() => device.reset(), /EINVAL: VFIO_DEVICE_RESET on 0000:01:00.0/);
  });
});

test('features: the envelope, probing, and the dma-buf descriptor as the result', () => {
  const { vfio_device_feature: header, vfio_device_feature_dma_buf: dmaBuf } = featureAbi;
  const handler = ({ view, bytes }: Pinned) => {
    assert.equal(header.fields.argsz.get(view), bytes.length);
    const flags = header.fields.flags.get(view);
    if ((flags & featureAbi.VFIO_DEVICE_FEATURE_MASK) !== featureAbi.VFIO_DEVICE_FEATURE_DMA_BUF) return -ERRNO.ENOTTY;
    if ((flags & featureAbi.VFIO_DEVICE_FEATURE_SET) !== 0) return -ERRNO.EINVAL;
    if ((flags & featureAbi.VFIO_DEVICE_FEATURE_PROBE) !== 0) return 0;
    if (dmaBuf.fields.flags.get(view, 8) !== 0) return -ERRNO.EINVAL;
    assert.equal(featureAbi.vfio_region_dma_range.fields.length.get(view, 24 + 16), 8192);
    return createEventfd('dma-buf').release();
  };
  withDevice({ [featureAbi.VFIO_DEVICE_FEATURE]: handler }, (device) => {
    assert.ok(hasFeature(device, featureAbi.VFIO_DEVICE_FEATURE_DMA_BUF, featureAbi.VFIO_DEVICE_FEATURE_GET));
    assert.ok(!hasFeature(device, featureAbi.VFIO_DEVICE_FEATURE_DMA_BUF, featureAbi.VFIO_DEVICE_FEATURE_SET));
    assert.ok(!hasFeature(device, featureAbi.VFIO_DEVICE_FEATURE_MIGRATION));
    const ranges = [
      { offset: 0, length: 4096 },
      { offset: 4096, length: 8192 },
    ];
    using buf = exportDmaBuf(device, { region: 2, ranges });
    assert.equal(buf.what, 'dma-buf of region 2 of 0000:01:00.0');
    assert.throws(
      () => exportDmaBuf(device, { region: 2, ranges, flags: 1 }),
      (e: Errno) => e.code === 'EINVAL',
    );
    const set = featureAbi.VFIO_DEVICE_FEATURE_SET | featureAbi.VFIO_DEVICE_FEATURE_DMA_BUF;
    assert.throws(() => deviceFeature(device, set, new Uint8Array(16)), /EINVAL: VFIO_DEVICE_FEATURE\(0x2000b\)/);
  });
  const whole = encodeDmaBufRequest({ region: 1, ranges: [{ offset: 0, length: 2n ** 64n - 4096n }], nrRanges: 9 });
  assert.equal(whole.readUInt32LE(12), 9);
  assert.equal(whole.readBigUInt64LE(24), 2n ** 64n - 4096n);
});

test('hot reset info grows until all devices fit; the reset passes the groups', () => {
  const total = 40;
  let groups = '';
  const handlers: Handlers = {
    [abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO]: ({ view, bytes }) => {
      abi.vfio_pci_hot_reset_info.write(view, 0, { flags: 0, count: total });
      if (bytes.length < 12 + 8 * total) return -ERRNO.ENOSPC;
      for (let i = 0; i < total; i++) {
        abi.vfio_pci_dependent_device.write(view, 12 + 8 * i, { group_id: 4, segment: 1, bus: 0xa1, devfn: i });
      }
      return 0;
    },
    [abi.VFIO_DEVICE_PCI_HOT_RESET]: ({ bytes }) => {
      groups = bytes.toString('hex');
      return -ERRNO.EBUSY;
    },
  };
  withDevice(handlers, (device) => {
    const { devices } = hotResetInfo(device);
    assert.equal(devices.length, total);
    assert.deepEqual(devices[10], { groupId: 4, bdf: '0001:a1:01.2' });
    assert.throws(() => hotReset(device, [5, 6]), /EBUSY: VFIO_DEVICE_PCI_HOT_RESET\(2 groups\)/);
    assert.equal(groups, '140000000000000002000000' + '0500000006000000');
  });
});

test('a container checks the kernel, maps and unmaps; a group that is not viable says what to do', () => {
  leavesNoFds(() => {
    const mapped: unknown[] = [];
    const { call } = playKernel({
      [abi.VFIO_GET_API_VERSION]: () => 0,
      [abi.VFIO_CHECK_EXTENSION]: () => 1,
      [VFIO_IOMMU_MAP_DMA]: ({ view }) => mapped.push(vfio_iommu_type1_dma_map.read(view)) * 0,
      [VFIO_IOMMU_UNMAP_DMA]: ({ view }) => {
        vfio_iommu_type1_dma_unmap.fields.size.set(view, 0, 8192);
        return 0;
      },
      [abi.VFIO_GROUP_GET_STATUS]: () => 0,
    });
    const container = new Type1Container(createEventfd('container'), call);
    container.map(0x10000, 0x7000_0000_0000, 8192);
    assert.deepEqual(mapped, [{ argsz: 32, flags: 3, vaddr: 0x7000_0000_0000, iova: 0x10000, size: 8192 }]);
    assert.equal(container.unmap(0x10000, 8192), 8192);
    container.close();
    using group = createEventfd('group');
    assert.throws(() => new VfioGroup(group, 7, call), /EPERM: IOMMU group 7 is not viable: bind all/);
    using old = createEventfd('container');
    assert.throws(() => new Type1Container(old, playKernel({ [abi.VFIO_GET_API_VERSION]: () => 1 }).call), /EPROTO/);
  });
});

test('a device that closes gives back what it was opened with, once', () => {
  const order: string[] = [];
  const release = { before: () => order.push('before'), after: () => order.push('after') };
  const device = new VfioDevice(createMemfd('device', PAGE), 'dev', release);
  device.close();
  device.close();
  assert.deepEqual(order, ['before', 'after']);
  assert.throws(
    () => device.info(),
    (e: Errno) => e.code === 'EBADF',
  );
});

test('without /dev/vfio the first step that fails is named and nothing stays open', () => {
  leavesNoFds(() => {
    assert.throws(
      () => openGroup(999999),
      (e: Errno) => e instanceof Errno && /\/dev\/vfio/.test(e.message),
    );
  });
});

test('the wakeup eventfd and the VF token are set as their payloads', () => {
  const seen: string[] = [];
  const record = ({ bytes }: Pinned) => seen.push(bytes.toString('hex')) * 0;
  withDevice({ [featureAbi.VFIO_DEVICE_FEATURE]: record }, (device) => {
    lowPowerEntryWithWakeup(device, 9);
    setVfToken(device, Buffer.alloc(16, 0xab));
    assert.deepEqual(seen, ['10000000040002000900000000000000', `1800000000000200${'ab'.repeat(16)}`]);
    assert.throws(() => setVfToken(device, Buffer.alloc(15)), /EINVAL: a VF token has 16 bytes/);
  });
});

test('a raw feature call goes to the kernel itself, which knows no such ioctl on a memfd', () => {
  withDevice({}, (device) => {
    assert.throws(() => deviceFeatureRaw(device, 0x1000b, 24, new Uint8Array(16)), /ENOTTY: .*flags 0x1000b, argsz 24/);
  });
});
