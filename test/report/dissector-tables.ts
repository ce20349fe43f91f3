/** The tables of docs/wireshark/barter-vfio-user.lua, from the layouts of the sources. */
import { ERRNO } from '../../src/abi/errno.ts';
import { BytesField, type Fields, S32Field, S64Field } from '../../src/abi/layout.ts';
import { HEXADECIMAL } from '../../src/vfio-user/exchange/describe.ts';
import { type AnyStruct, FEATURES, layoutsOf, type MessageLayout } from '../../src/vfio-user/exchange/layouts.ts';

const BEGIN = '-- begin of the tables\n';
const END = '-- end of the tables\n';

function structText(struct: AnyStruct): string {
  const fields = Object.entries<Fields[string]>(struct.fields).map(([name, field]) => {
    const isSigned = field instanceof S32Field || field instanceof S64Field;
    const kind =
      field instanceof BytesField ? 'bytes' : HEXADECIMAL.test(name) ? 'hex' : isSigned ? 'signed' : 'number';
    return `    { "${name}", ${field.offset}, ${field.size}, "${kind}" },\n`;
  });
  return `  ${struct.name} = {\n${fields.join('')}  },\n`;
}

const nameOf = (struct: AnyStruct) => (struct.sizeof === 0 ? '' : struct.name);

function commandsText(name: string, commands: ReadonlyMap<number, MessageLayout>): string {
  const lines = [...commands].map(([number, { name: command, request, reply, rest }]) => {
    const structs = `request = "${nameOf(request)}", reply = "${nameOf(reply)}"`;
    return `  [${number}] = {\n    name = "${command}", rest = "${rest}",\n    ${structs},\n  },\n`;
  });
  return `${name} = {\n${lines.join('')}}\n`;
}

/** The dissector with the tables of the sources between its marks. */
export function withTables(dissector: string): string {
  const [vfioUser, dmaBuf] = [layoutsOf('vfio-user'), layoutsOf('dma-buf')];
  const messages = [...vfioUser.values(), ...dmaBuf.values()].flatMap(({ request, reply }) => [request, reply]);
  const payloads = [...FEATURES.values()].map(({ payload }) => payload);
  const structs = new Map([...messages, ...payloads].map((struct) => [nameOf(struct), struct]));
  structs.delete('');
  const features = [...FEATURES].map(
    ([number, { name, payload }]) => `  [${number}] = { name = "${name}", payload = "${nameOf(payload)}" },\n`,
  );
  const errors = Object.entries(ERRNO).map(([name, number]) => `  [${number}] = "${name}",\n`);
  const tables = [
    `local STRUCTS = {\n${[...structs.values()].map(structText).join('')}}\n`,
    `local ${commandsText('VFIO_USER', vfioUser)}`,
    `local ${commandsText('DMA_BUF', dmaBuf)}`,
    `local FEATURES = {\n${features.join('')}}\n`,
    `local ERRNO = {\n${errors.join('')}}\n`,
  ].join('\n');
  const [before, rest] = dissector.split(BEGIN);
  return `${before}${BEGIN}${tables}${END}${rest.slice(rest.indexOf(END) + END.length)}`;
}
