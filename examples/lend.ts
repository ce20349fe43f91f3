/** Lends memory of one device to another, takes it back, lends it again. docs/lend-and-revoke.md walks through it. */
import { type InvalidateEvent, openMachine } from 'barter';

const machine = await openMachine(process.argv[2]);
const lender = await machine.open('lender');
await lender.setMemory(true);

const borrower = await machine.open('borrower');
await borrower.setBusMaster(true);

const buffer = await lender.exportDmaBuf([{ offset: 0x10000, length: 0x1000 }]);
const onInvalidate = ({ mappings }: InvalidateEvent) => console.log(`told to let go of ${mappings} mapping(s)`);
const attachment = await buffer.attach('borrower', { onInvalidate });

const mapping = await attachment.map();
await mapping.write(0, Buffer.from('peer to peer'));
console.log(Buffer.from(await lender.readRegion(0, 0x10000, 12)).toString());

await lender.setMemory(false); // The revoke: it returns when no mapping is left.
await attachment.map().catch((error) => console.log(error.code)); // ENODEV

await lender.setMemory(true); // The restore: the importer is told again, and may map anew.
const again = await attachment.map();
console.log(Buffer.from(await again.read(0, 12)).toString());

for (const one of [again, attachment, buffer, borrower, lender, machine]) await one[Symbol.asyncDispose]();
