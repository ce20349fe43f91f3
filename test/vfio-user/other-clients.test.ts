/**
 * Messages of other clients as they send them, and the replies that they need, byte for byte. rust-vmm's client
 * (cloud-hypervisor) waits for more than the header of every reply with a payload, so an error reply to a routine
 * request would block it. The others are libvfio-user's and SPDK's.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { message, RawClient } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();

/** Bytes from hexadecimal words, as in a dump. */
const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

class Exact {
  readonly client: RawClient;
  private id = 0;

  constructor(device: string) {
    this.client = new RawClient(server.path(device));
  }

  /** Sends the payload under the command, and compares the whole reply, header included, with the expected one. */
  ask(command: number, payload: string, expected: string, fds: readonly number[] = []): void {
    const id = this.id++;
    const request = hex(payload);
    this.client.send(message({ id, command }, request), fds);
    const reply = this.client.receive();
    assert.ok(reply !== null, `command ${command}`);
    const wanted = message({ id, command, flags: 1 }, hex(expected));
    assert.equal(
      Buffer.concat([reply.header, reply.payload]).toString('hex'),
      wanted.toString('hex'),
      `command ${command}`,
    );
    for (const fd of reply.fds) fd.close();
  }
}

const RUST_VMM_VERSION = JSON.stringify({
  capabilities: { max_msg_fds: 1, max_data_xfer_size: 1048576, migration: { pgsize: 4096 } },
});

test('rust-vmm: VERSION 0.1 gets a reply of 0.0, with JSON that has "capabilities" and ends with a zero', async () => {
  const client = new RawClient(server.path('lender'));
  const reply = client.call({ command: 1 }, Buffer.concat([hex('0000 0100'), Buffer.from(`${RUST_VMM_VERSION}\0`)]));
  assert.equal(reply.error, 0);
  assert.equal(reply.payload.readUInt32LE(0), 0);
  assert.equal(
    reply.payload.subarray(4).toString(),
    '{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":65535,"pgsizes":4096,' +
      '"migration":{"pgsize":4096,"max_bitmap_size":524288}}}\0',
  );
  client.close();
  await server.assertNothingLeft();
});

test('rust-vmm: everything that it asks when it attaches has the reply whose length it waits for', async () => {
  const exact = new Exact('lender');
  const { client } = exact;
  const version = Buffer.concat([hex('0000 0100'), Buffer.from(`${RUST_VMM_VERSION}\0`)]);
  assert.equal(client.call({ id: 77, command: 1 }, version).error, 0);
  // GET_INFO with argsz 32: 16 bytes come, flags PCI and RESET, 9 regions, 5 interrupts.
  exact.ask(4, '20000000 00000000 00000000 00000000', '10000000 03000000 09000000 05000000');
  const region = (index: number, argsz = 32) =>
    `${argsz.toString(16).padStart(2, '0')}000000 00000000 0${index}000000 00000000 ${'00'.repeat(16)}`;
  const info = (index: number, flags: string, size: string, argsz = '20', cap = '00') =>
    `${argsz}000000 ${flags}000000 0${index}000000 ${cap}000000 ${size} 0000000000000000`;
  exact.ask(5, region(0), info(0, '07', '0000100000000000'));
  exact.ask(5, region(1), info(1, '00', '0000000000000000'));
  // BAR 2 has capabilities: the client first asks for their size, then for exactly that many bytes.
  exact.ask(5, region(2), info(2, '07', '0040000000000000', '58'));
  exact.ask(
    5,
    region(2, 0x58),
    `${info(2, '0f', '0040000000000000', '58', '20')}
     0100 0100 50000000 02000000 00000000
     0000000000000000 0010000000000000
     0020000000000000 0020000000000000
     0300 0100 00000000`,
  );
  for (const index of [3, 4, 5, 6, 8]) exact.ask(5, region(index), info(index, '00', '0000000000000000'));
  exact.ask(5, region(7), info(7, '03', '0010000000000000'));
  const irq = (index: number, flags: string, count: string) =>
    exact.ask(
      7,
      `10000000 00000000 0${index}000000 00000000`,
      `10000000 ${flags}000000 0${index}000000 ${count}000000`,
    );
  irq(0, '07', '00');
  irq(1, '09', '00');
  irq(2, '01', '04');
  irq(3, '09', '01');
  irq(4, '09', '01');
  client.close();
  await server.assertNothingLeft();
});

test('rust-vmm: a REGION_WRITE reply has 32 bytes, a DMA_UNMAP reply 40, others the header alone', async () => {
  const exact = new Exact('lender');
  const { client } = exact;
  const version = Buffer.concat([hex('0000 0100'), Buffer.from(`${RUST_VMM_VERSION}\0`)]);
  assert.equal(client.call({ id: 77, command: 1 }, version).error, 0);
  const memfd = createMemfd('test', 8192);
  const event = createEventfd();
  exact.ask(10, '0400000000000000 07000000 02000000 0600', '0400000000000000 07000000 02000000');
  exact.ask(10, '0001000000000000 00000000 04000000 01020304', '0001000000000000 00000000 04000000');
  exact.ask(9, '0001000000000000 00000000 04000000', '0001000000000000 00000000 04000000 01020304');
  exact.ask(2, '20000000 03000000 0000000000000000 0000100000000000 0020000000000000', '', [memfd.fd]);
  exact.ask(
    3,
    '18000000 00000000 0000100000000000 0020000000000000',
    '18000000 00000000 0000100000000000 0020000000000000',
  );
  // SET_IRQS of one MSI-X vector: an eventfd as its trigger; then none, which disables all.
  exact.ask(8, '14000000 24000000 02000000 00000000 01000000', '', [event.fd]);
  exact.ask(8, '14000000 21000000 02000000 00000000 00000000', '');
  exact.ask(13, '', '');
  memfd.close();
  event.close();
  client.close();
  await server.assertNothingLeft();
});

test("libvfio-user's client: eight descriptors, WRITE_MULTI, and the reply that counts", async () => {
  const exact = new Exact('bystander');
  const { client } = exact;
  const json = '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576,"write_multiple":true}}\0';
  const reply = client.call({ id: 77, command: 1 }, Buffer.concat([hex('0000 0000'), Buffer.from(json)]));
  assert.match(reply.payload.toString(), /"write_multiple":true/);
  exact.ask(10, '0400000000000000 07000000 02000000 0600', '0400000000000000 07000000 02000000');
  exact.ask(
    15,
    `0200000000000000
     1000000000000000 00000000 04000000 aabbccdd00000000
     1400000000000000 00000000 02000000 eeff000000000000`,
    '0200000000000000',
  );
  exact.ask(9, '1000000000000000 00000000 06000000', '1000000000000000 00000000 06000000 aabbccddeeff');
  client.close();
  await server.assertNothingLeft();
});

test("SPDK's client: no JSON, room for 4064 bytes with each region, and a descriptor with DMA_UNMAP", async () => {
  const exact = new Exact('bystander');
  const { client } = exact;
  assert.equal(client.call({ id: 0, command: 1 }, hex('0000 0100')).error, 0);
  exact.ask(4, '10000000 00000000 00000000 00000000', '10000000 03000000 09000000 05000000');
  const region = (index: number) => `e00f0000 00000000 0${index}000000 ${'00'.repeat(4064 - 12)}`;
  const info = (index: number, flags: string, size: string) =>
    `20000000 ${flags}000000 0${index}000000 00000000 ${size} 0000000000000000`;
  exact.ask(5, region(0), info(0, '07', '0010000000000000'));
  for (const index of [1, 2, 3, 4, 5, 6]) exact.ask(5, region(index), info(index, '00', '0000000000000000'));
  exact.ask(5, region(7), info(7, '03', '0010000000000000'));
  exact.ask(5, region(8), info(8, '00', '0000000000000000'));
  const memfd = createMemfd('test', 8192);
  // An IOVA is the address in the client's process.
  const [map, unmap] = ['20000000 03000000 0010000000000000', '18000000 00000000'];
  const range = '0000200000200000 0010000000000000';
  exact.ask(2, `${map} ${range}`, '', [memfd.fd]);
  exact.ask(10, '0400000000000000 07000000 02000000 0600', '0400000000000000 07000000 02000000');
  exact.ask(9, '0000000000000000 07000000 04000000', '0000000000000000 07000000 04000000 361b010b');
  exact.ask(3, `${unmap} ${range}`, `${unmap} ${range}`, [memfd.fd]);
  memfd.close();
  client.close();
  await server.assertNothingLeft();
});
