/** Drives the device of any vfio-user server: node --import tsx examples/foreign-server.ts SOCKET */
import { AsyncVfioUserClient, createEventfd, RefusedError, SharedMemory } from 'barter/client';

const CONFIG = 7;
const PAGE = 4096;

await using client = await AsyncVfioUserClient.connect(process.argv[2], { timeoutMs: 5000 });
const ids = await client.readRegion(CONFIG, 0, 4);
console.log(`device ${ids.readUInt16LE(0).toString(16)}:${ids.readUInt16LE(2).toString(16)}`);

// The first BAR that the device has. Each read of the GPIO sample's is a look at its pins.
const { numRegions } = await client.info();
let bar = -1;
for (let index = 0; index < Math.min(6, numRegions) && bar < 0; index++) {
  const { sizeBytes, map } = await client.regionInfo(index);
  map?.fd.close();
  if (sizeBytes > 0) bar = index;
}
const pins: number[] = [];
for (let n = 0; n < 6; n++) pins.push((await client.readRegion(bar, 0, 1))[0]);
console.log(`BAR ${bar} reads ${pins.join(' ')}`);

// Memory that the device may reach at an address of its own.
using memory = new SharedMemory(PAGE);
await client.dmaMap({ iova: 0x1_0000_0000n, sizeBytes: PAGE, fd: memory.memfd.fd });
console.log(`unmapped ${await client.dmaUnmap(0x1_0000_0000n, PAGE)} bytes`);

// An interrupt, as an eventfd. A server says which it has.
const interrupt = createEventfd('interrupt');
const irq = (await client.irqInfo('INTX')).count > 0 ? 'INTX' : 'MSIX';
await client.setEventfds(irq, [interrupt.fd]);
await client.disableIrqs(irq);
interrupt.close();

// A refusal has the errno of the server.
const refusal = await client.readRegion(CONFIG, 1 << 20, 4).catch((error: unknown) => error);
console.log(`a read behind config space is refused: ${refusal instanceof RefusedError}`);
