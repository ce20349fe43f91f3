/** The async API gives the same results in process and on a served machine. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type InvalidateEvent, openMachine } from '../../src/index.ts';

const PEERS = fileURLToPath(new URL('../../examples/two-peers.yaml', import.meta.url));
const SLICE = { offset: 0x10000, length: 0x2000 };

for (const on of ['engine', 'vfio-user'] as const) {
  test(`${on}: a buffer is lent, revoked by each trigger, and restored`, async () => {
    const machine = await openMachine(PEERS, { on });
    const lender = await machine.open('lender');
    await lender.setMemory(true);
    const buffer = await lender.exportDmaBuf([SLICE, { offset: 0, length: 0x1000 }]);
    assert.equal(buffer.sizeBytes, 0x3000);
    const events: InvalidateEvent[] = [];
    const attachment = await buffer.attach('borrower', { onInvalidate: (event) => events.push(event) });
    const triggers: [string, () => Promise<void>, (() => Promise<void>) | null][] = [
      ['memory bit', () => lender.setMemory(false), () => lender.setMemory(true)],
      ['D3hot', () => lender.setPowerState(3), () => lender.setPowerState(0)],
      ['low power', () => lender.enterLowPower(), () => lender.exitLowPower()],
    ];
    for (const [name, pull, undo] of triggers) {
      await attachment.map();
      events.length = 0;
      await pull();
      assert.deepEqual(events, [{ mappings: 1 }], name);
      await assert.rejects(attachment.map(), { code: 'ENODEV', errno: -19 }, name);
      await undo?.();
      assert.deepEqual(events, [{ mappings: 1 }, { mappings: 0 }], `${name}: told of the restore`);
    }
    for (const pull of [() => lender.flr(), () => lender.reset()]) {
      await attachment.map();
      events.length = 0;
      await pull();
      await lender.setMemory(true);
      assert.equal(events[0].mappings, 1);
      await (await attachment.map()).unmap();
    }
    for (const one of [attachment, buffer, lender, machine]) await one[Symbol.asyncDispose]();
  });

  test(`${on}: bytes go peer to peer, and config space and regions are read and written`, async () => {
    const machine = await openMachine(PEERS, { on });
    const lender = await machine.open('lender');
    await lender.setMemory(true);
    // Over vfio-user the borrower's own client must enable its DMA.
    const borrower = await machine.open('borrower');
    await borrower.setBusMaster(true);
    await lender.writeRegion(0, 0x1000, Buffer.from('from the lender'));
    const buffer = await lender.exportDmaBuf([{ offset: 0x1000, length: 0x1000 }]);
    const attachment = await buffer.attach('borrower');
    const mapping = await attachment.map();
    assert.equal(Buffer.from(await mapping.read(0, 15)).toString(), 'from the lender');
    assert.equal(await mapping.write(5, Buffer.from('a peer')), 6);
    assert.equal(Buffer.from(await lender.readRegion(0, 0x1000, 11)).toString(), 'from a peer');
    for (const one of [mapping, attachment, buffer, borrower, lender, machine]) await one[Symbol.asyncDispose]();
  });

  test(`${on}: without ranges all of the BAR is lent; refusals have their errno`, async () => {
    const machine = await openMachine(PEERS, { on });
    const lender = await machine.open('lender');
    await lender.setMemory(true);
    const whole = await lender.exportDmaBuf();
    assert.equal(whole.sizeBytes, (await lender.regionInfo(0)).sizeBytes);
    await assert.rejects(lender.exportDmaBuf([{ offset: 1, length: 0x1000 }]), { code: 'EINVAL' });
    await assert.rejects(lender.exportDmaBuf([SLICE], { openFlags: 0xffffffff }), { code: 'EINVAL' });
    for (const one of [whole, lender, machine]) await one[Symbol.asyncDispose]();
  });
}

test('a revoke waits for an importer that keeps its mapping, and goes on when it lets go', async () => {
  const machine = await openMachine(PEERS);
  const lender = await machine.open('lender');
  await lender.setMemory(true);
  const buffer = await lender.exportDmaBuf([SLICE]);
  const attachment = await buffer.attach('borrower', { onRevoke: 'keep' });
  const mapping = await attachment.map();
  let isRevoked = false;
  const revoke = lender.setMemory(false).then(() => {
    isRevoked = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isRevoked, false);
  await mapping.unmap();
  await revoke;
  assert.equal(isRevoked, true);
  for (const one of [attachment, buffer, lender, machine]) await one[Symbol.asyncDispose]();
});

test('what is still open when the machine closes is closed, and reported', async () => {
  const machine = await openMachine(PEERS);
  const lender = await machine.open('lender');
  await lender.setMemory(true);
  const buffer = await lender.exportDmaBuf([SLICE]);
  await (await buffer.attach('borrower')).map();
  const warned = once(process, 'warning');
  await machine.close();
  const [warning] = (await warned) as [Error];
  assert.equal(warning.name, 'BarterWarning');
  assert.equal(
    warning.message,
    'closed with the machine, and not before it: device lender, a dma-buf of 8192 bytes, ' +
      'an attachment of borrower, a mapping of 8192 bytes',
  );
});
