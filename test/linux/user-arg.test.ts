import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRNO, type Errno } from '../../src/abi/errno.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { sys } from '../../src/linux/ffi.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { openFilesLimit, setAffinity, setOpenFilesLimit } from '../../src/linux/process.ts';
import { UserArg } from '../../src/linux/user-arg.ts';

test('the kernel reads up to the last byte of an argument and gets EFAULT for one more', () => {
  const memfd = createMemfd('sink', 65536);
  for (const length of [0, 1, 8, 24, 4096, 5000]) {
    const arg = new UserArg(Buffer.alloc(length, 0x5a));
    assert.deepEqual(arg.read(), Buffer.alloc(length, 0x5a));
    const { address } = arg;
    if (length > 0) assert.equal(sys.write(memfd.fd, address, length), length);
    // write(2) writes what it can before the fault. An access that starts at the end has nothing to write.
    assert.equal(sys.write(memfd.fd, address + length, 1), -ERRNO.EFAULT);
    arg.close();
    arg.close();
    assert.throws(
      () => arg.read(),
      (e: Errno) => e.code === 'EFAULT',
    );
  }
  memfd.close();
});

test('what the kernel writes into an argument is read from it', () => {
  const memfd = createMemfd('source', 4096);
  sys.pwrite(memfd.fd, Buffer.from('kernel'), 6, 0);
  const arg = new UserArg(Buffer.alloc(6));
  assert.equal(sys.read(memfd.fd, arg.address, 6), 6);
  assert.equal(arg.read().toString(), 'kernel');
  arg.close();
  memfd.close();
});

test('the limit on descriptors can be met and restored', () => {
  const { soft, hard } = openFilesLimit();
  assert.ok(soft > 0 && hard >= soft);
  const before = setOpenFilesLimit(3);
  assert.equal(before, soft);
  assert.throws(
    () => createEventfd(),
    (e: Errno) => e.code === 'EMFILE',
  );
  setOpenFilesLimit(before);
  assert.equal(openFilesLimit().soft, soft);
});

test('affinity takes CPU 0 and refuses a CPU that cannot be', () => {
  assert.throws(
    () => setAffinity([1000]),
    (e: Errno) => e.code === 'EINVAL',
  );
  setAffinity([0]);
  setAffinity([...Array(64).keys()]);
});
