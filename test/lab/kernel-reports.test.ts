import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kernelReports } from '../../lab/kernel/reports.ts';

/** Text as a console shows it: timestamps, with or without the processor, and unrelated lines in between. */
function asConsole(text: string): string {
  return text
    .split('\n')
    .map(
      (line, i) =>
        `[  ${i % 2 === 0 ? '' : ' '}12.${String(i).padStart(6, '0')}]${i % 3 === 0 ? '[  T123]' : ''} ${line}`,
    )
    .join('\r\n');
}

const KASAN = `==================================================================
BUG: KASAN: slab-use-after-free in some_function+0x12/0x34
Read of size 8 at addr ffff888012345678 by task node/123

CPU: 1 UID: 0 PID: 123 Comm: node Not tainted
Call Trace:
 <TASK>
 dump_stack_lvl+0x53/0x70
==================================================================
Disabling lock debugging due to kernel taint`;

const LOCKDEP = `======================================================
WARNING: possible circular locking dependency detected
7.3.4-barter-debug #1 Not tainted
------------------------------------------------------
node/123 is trying to acquire lock:
ffff8880 (&vdev->memory_lock){++++}-{4:4}, at: something+0x1/0x2

stack backtrace:
 dump_stack_lvl+0x53/0x70`;

const WARNING = `------------[ cut here ]------------
WARNING: drivers/vfio/pci/vfio_pci_dmabuf.c:1 at some_function+0x1/0x2, CPU#0: node/123
Modules linked in:
---[ end trace 0000000000000000 ]---`;

const HUNG = `INFO: task node:123 blocked for more than 20 seconds.
      Not tainted 7.3.4-barter-debug #1
"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.`;

const LEAK = `unreferenced object 0xffff888012345678 (size 64):
  comm "node", pid 123, jiffies 4294900000
  backtrace (crc 12345678):
    kmalloc+0x1/0x2`;

test('each kind of report is found, whole, and in order', () => {
  const console = asConsole(['Linux version 7.3.4', KASAN, LOCKDEP, WARNING, HUNG, LEAK].join('\n'));
  const reports = kernelReports(console);
  assert.deepEqual(
    reports.map(({ kind, documented }) => [kind, documented]),
    [
      ['KASAN', null],
      ['lockdep', null],
      ['warning', null],
      ['hung task', null],
      ['kmemleak', null],
    ],
  );
  const [kasan, lockdep] = reports;
  assert.equal(kasan.title, 'BUG: KASAN: slab-use-after-free in some_function+0x12/0x34');
  assert.match(kasan.text, /^BUG: KASAN[\s\S]*dump_stack_lvl\+0x53\/0x70\n={66}$/);
  assert.match(lockdep.text, /vdev->memory_lock[\s\S]*stack backtrace:\n dump_stack_lvl/);
});

test('a leak that is a finding names its file; others of that call do not', () => {
  const leakOf = (...frames: string[]) =>
    `${LEAK.split('\n').slice(0, 3).join('\n')}\n${frames.map((f) => `    ${f}`).join('\n')}`;
  const inMap = ['dma_buf_phys_vec_to_sgt+0x31f/0x890', 'vfio_pci_dma_buf_map+0x1d0/0x230'];
  const known = leakOf(
    '__kmalloc_noprof+0x1fe/0x240',
    '__sg_alloc_table+0x91/0x2b0',
    'sg_alloc_table+0x1d/0x40',
    ...inMap,
  );
  const other = leakOf('__kmalloc_cache_noprof+0x1fe/0x240', ...inMap);
  assert.deepEqual(
    kernelReports(asConsole(`${known}\n${other}`)).map(({ documented }) => documented),
    ['lab/findings/08-a-mapping-leaks.yaml', null],
  );
});

test('a warning that is a finding names its file, where it comes of a map', () => {
  const warning = (
    caller: string,
  ) => `WARNING: drivers/iommu/iova.c:632 at iova_magazine_free_pfns.part.0+0x5c/0xf0, CPU#1
 free_cpu_cached_iovas+0x4c/0xa0
 ${caller}+0xe8/0x470
---[ end trace 0000000000000000 ]---`;
  const console = asConsole(`${warning('dma_buf_phys_vec_to_sgt')}\n${warning('somebody_else')}`);
  assert.deepEqual(
    kernelReports(console).map(({ documented }) => documented),
    ['lab/findings/09-a-failed-map-frees-iova-0.yaml', null],
  );
});

test('two of the same kind are two, and a plain boot has none', () => {
  assert.equal(kernelReports(asConsole(`${KASAN}\n${KASAN}`)).length, 2);
  assert.equal(kernelReports(asConsole(`${LEAK}\n${LEAK}\n${LEAK}`)).length, 3);
  const boot = `tsc: Unable to calibrate against PIT
mtrr: your CPUs had inconsistent fixed MTRR settings
qemu-system-x86_64: warning: TCG doesn't support requested feature
vfio-pci 0000:01:00.0: resetting`;
  assert.deepEqual(kernelReports(asConsole(boot)), []);
});

test('an oops is one report, with what leads to it', () => {
  const oops = `BUG: kernel NULL pointer dereference, address: 0000000000000008
#PF: supervisor read access in kernel mode
Oops: Oops: 0000 [#1] SMP KASAN
RIP: 0010:some_function+0x1/0x2
---[ end trace 0000000000000000 ]---`;
  assert.deepEqual(
    kernelReports(asConsole(oops)).map(({ kind, title }) => [kind, title]),
    [['oops', 'BUG: kernel NULL pointer dereference, address: 0000000000000008']],
  );
});

test('a revoke that waits for a GPU that is gone is a documented finding; another hung task is not', () => {
  const gpu = `${HUNG}
Call Trace:
 <TASK>
 dma_fence_wait_timeout+0xc5/0x180
 virtio_gpu_detach_object_fenced+0x6c/0xb0 [virtio_gpu]
 dma_buf_invalidate_mappings+0x35/0x50
 vfio_pci_dma_buf_move+0x50/0x190 [vfio_pci_core]
 </TASK>`;
  const other = gpu.replace(/^ vfio_pci_dma_buf_move.*\n/m, '');
  assert.deepEqual(
    [gpu, other].flatMap((text) => kernelReports(asConsole(text)).map(({ documented }) => documented)),
    ['docs/kernel-findings.md, 10', null],
  );
});

test('a freed file in a revoke, and the VF BARs of a waking function, are documented; others are not', () => {
  const freed = KASAN.replace('some_function', '__get_file_rcu').replace(
    ' dump_stack_lvl+0x53/0x70',
    ' dump_stack_lvl+0x53/0x70\n get_file_active+0x64/0x80\n vfio_pci_dma_buf_move+0xef/0x3f0',
  );
  const elsewhere = freed.replace('vfio_pci_dma_buf_move', 'proc_fd_link');
  const waking = WARNING.replace('some_function', 'pci_iov_update_resource');
  assert.deepEqual(
    [freed, elsewhere, waking].flatMap((text) => kernelReports(asConsole(text)).map(({ documented }) => documented)),
    ['lab/findings/14-a-path-outlives-the-file.yaml', null, 'docs/kernel-findings.md, 13'],
  );
});
