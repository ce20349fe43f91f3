import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERRNO } from '../../../src/abi/errno.ts';
import * as abi from '../../../src/abi/iommufd.ts';
import { VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_BIND_IOMMUFD } from '../../../src/abi/vfio.ts';
import { createEventfd } from '../../../src/linux/eventfd.ts';
import type { Pinned } from '../../../src/linux/ffi.ts';
import type { IoctlCall } from '../../../src/linux/ioctl.ts';
import { VfioDevice } from '../../../src/linux/vfio/device.ts';
import { attachIoas, bindIommufd, cdevPath, Iommufd, openThroughCdev } from '../../../src/linux/vfio/iommufd.ts';
import { leavesNoFds } from '../open-fds.ts';

/** A simulated /dev/iommu with at most one mapping. Every struct's first word must be its size. */
function playIommufd(): { call: IoctlCall; seen: Record<string, unknown>[] } {
  const seen: Record<string, unknown>[] = [];
  let mapped: { iova: bigint; length: bigint } | null = null;
  const call: IoctlCall = (_fd, request, argument) => {
    const { view, bytes } = argument as Pinned;
    if (request !== VFIO_DEVICE_BIND_IOMMUFD && request !== VFIO_DEVICE_ATTACH_IOMMUFD_PT) {
      assert.equal(view.getUint32(0, true), bytes.length);
    }
    switch (request) {
      case abi.IOMMU_IOAS_ALLOC:
        abi.iommu_ioas_alloc.fields.out_ioas_id.set(view, 0, 3);
        return 0;
      case abi.IOMMU_IOAS_MAP:
      case abi.IOMMU_IOAS_MAP_FILE: {
        const layout = request === abi.IOMMU_IOAS_MAP ? abi.iommu_ioas_map : abi.iommu_ioas_map_file;
        seen.push(layout.read(view));
        const fixed = (layout.fields.flags.get(view) & abi.IOMMU_IOAS_MAP_FIXED_IOVA) !== 0;
        if (fixed && mapped !== null) return -ERRNO.EEXIST;
        if (!fixed) layout.fields.iova.set(view, 0, 0xffff_ffff_f000_0000n);
        mapped = { iova: layout.fields.iova.getBig(view), length: layout.fields.length.getBig(view) };
        return 0;
      }
      case abi.IOMMU_IOAS_UNMAP: {
        if (mapped === null) return -ERRNO.ENOENT;
        abi.iommu_ioas_unmap.fields.length.set(view, 0, mapped.length);
        mapped = null;
        return 0;
      }
      case abi.IOMMU_IOAS_COPY:
        seen.push(abi.iommu_ioas_copy.read(view));
        return 0;
      case abi.IOMMU_DESTROY:
        return -ERRNO.EBUSY;
      case VFIO_DEVICE_BIND_IOMMUFD:
        seen.push({ bind: bytes.toString('hex') });
        view.setUint32(12, 77, true);
        return 0;
      case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
        seen.push({ attach: bytes.toString('hex') });
        view.setUint32(8, 5, true);
        return 0;
      default:
        return -ERRNO.ENOTTY;
    }
  };
  return { call, seen };
}

test('address spaces: allocate, map where the caller or the kernel says, unmap, copy', () => {
  leavesNoFds(() => {
    const { call, seen } = playIommufd();
    using iommufd = new Iommufd(createEventfd('iommufd'), call);
    const ioas = iommufd.allocIoas();
    assert.equal(ioas, 3);
    assert.equal(iommufd.mapFile(ioas, 9, 4096, 8192, 0x10000), 0x10000n);
    assert.deepEqual(seen[0], { size: 40, flags: 7, ioas_id: 3, fd: 9, start: 4096, length: 8192, iova: 0x10000 });
    assert.throws(() => iommufd.map(ioas, 0x1000, 4096, 0x10000), /EEXIST: IOMMU_IOAS_MAP\(ioas 3\)/);
    assert.equal(iommufd.unmap(ioas, 0, 2n ** 64n - 1n), 8192n);
    assert.throws(() => iommufd.unmap(ioas, 0, 4096), /ENOENT: IOMMU_IOAS_UNMAP/);
    assert.equal(iommufd.map(ioas, 0x1000, 4096, undefined), 0xffff_ffff_f000_0000n);
    assert.equal((seen[2] as { flags: number }).flags, 6);
    iommufd.copy(4, ioas, 0x10000, 8192, 0x20000);
    assert.deepEqual(seen[3], {
      size: 40,
      flags: 7,
      dst_ioas_id: 4,
      src_ioas_id: 3,
      length: 8192,
      dst_iova: 0x20000,
      src_iova: 0x10000,
    });
    assert.throws(() => iommufd.destroy(ioas), /EBUSY: IOMMU_DESTROY\(3\)/);
  });
});

test('binding and attaching use the short forms that every kernel with cdevs takes', () => {
  leavesNoFds(() => {
    const { call, seen } = playIommufd();
    using iommufd = new Iommufd(createEventfd('iommufd'), call);
    using device = new VfioDevice(createEventfd('cdev'), '0000:01:00.0', {}, call);
    assert.equal(bindIommufd(device, iommufd), 77);
    assert.equal(attachIoas(device, 3), 5);
    const fd = Buffer.alloc(4);
    fd.writeInt32LE(iommufd.fd.fd);
    assert.deepEqual(seen, [
      { bind: `1000000000000000${fd.toString('hex')}000000000000000000000000` },
      { attach: '0c000000000000000300000000000000' },
    ]);
  });
});

test('the node of a device is found in sysfs, or is not there', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-cdev-'));
  assert.equal(cdevPath(folder), null);
  mkdirSync(join(folder, 'vfio-dev', 'vfio5'), { recursive: true });
  assert.equal(cdevPath(folder), '/dev/vfio/devices/vfio5');
  rmSync(folder, { recursive: true });
  leavesNoFds(() => {
    assert.throws(() => openThroughCdev('ffff:ff:1f.7'), /ENODEV: ffff:ff:1f.7 has no vfio-dev/);
  });
});
