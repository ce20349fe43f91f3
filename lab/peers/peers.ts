/** The vfio-user servers of others that the lab builds, the client that it has, and the programs that start them. */
import { labPath } from '../host/cache.ts';
import { QEMU_ENVIRONMENT, qemuProgram } from '../host/qemu.ts';

export const SOURCE = 'usr/src/peers/qemu';
export const LIBRARY = `${SOURCE}/subprojects/libvfio-user`;

/** The library as QEMU's build makes it. */
const BUILT = `${SOURCE}/build/subprojects/libvfio-user`;

const LOADER = 'lib64/ld-linux-x86-64.so.2';
const SYSTEM_LIBRARIES = 'usr/lib/x86_64-linux-gnu';

export interface ForeignServer {
  name: string;
  about: string;
  /** A program of the root. */
  program: string;
  /** Its arguments, as a shell reads them: $1 is the path of the socket, $root that of the root. */
  args: string;
}

export const FOREIGN_SERVERS: readonly ForeignServer[] = [
  sample('server', 'libvfio-user-server', "libvfio-user's sample server: DMA, interrupts, migration"),
  sample('gpio-pci-idio-16', 'libvfio-user-gpio', "libvfio-user's sample of a GPIO card"),
  emulator('edu,id=dev', 'qemu-edu', "QEMU's edu device, served by QEMU"),
  emulator('nvme,id=dev,serial=barter', 'qemu-nvme', "QEMU's NVMe controller, served by QEMU"),
];

function sample(file: string, name: string, about: string): ForeignServer {
  return { name, about, program: `${BUILT}/samples/${file}`, args: '"$1"' };
}

function emulator(device: string, name: string, about: string): ForeignServer {
  const object = {
    'qom-type': 'x-vfio-user-server',
    id: 'server',
    device: 'dev',
    socket: { type: 'unix', path: '$1' },
  };
  const data = '-L "$root/usr/share/qemu" -L "$root/usr/share/seabios"';
  const machine = '-machine x-remote,vfio-user=on -nodefaults -display none';
  return {
    name,
    about,
    program: `${SOURCE}/build/qemu-system-x86_64`,
    args: `${data} ${machine} -device ${device} -object "${quoted(object)}"`,
  };
}

/** QEMU as a client. Its memory has a file, so that the device can map it. */
export const FOREIGN_CLIENT = {
  name: 'qemu-client',
  about: "the lab's QEMU: it attaches the device, runs its firmware for a second, and quits",
  args: [
    ...['-machine q35,memory-backend=ram -m 64M -object memory-backend-memfd,id=ram,size=64M,share=on'],
    ...['-nodefaults -display none -monitor stdio'],
    `-device "${quoted({ driver: 'vfio-user-pci', socket: { type: 'unix', path: '$1' } })}"`,
  ].join(' '),
};

/** JSON inside of a shell's double quotes. */
function quoted(value: object): string {
  return JSON.stringify(value).replaceAll('"', '\\"');
}

/** The path of the program that starts a peer. Its only argument is the path of the socket. */
export function foreignPath({ name }: { name: string }): string {
  return labPath('peers', name);
}

/** The program, as a shell script: it runs with the root's loader and libraries, and does not enter the root. */
export function foreignServerScript({ about, program, args }: ForeignServer): string {
  const root = labPath('root');
  const path = [SYSTEM_LIBRARIES, `${BUILT}/lib`].map((folder) => `$root/${folder}`).join(':');
  return `#!/bin/sh
# ${about}: at the socket $1.
root=${root}
exec "$root/${LOADER}" --library-path "${path}" "$root/${program}" ${args}
`;
}

/** QEMU's monitor takes `quit` after a second, so the program ends by itself. */
export function foreignClientScript(): string {
  const environment = Object.entries(QEMU_ENVIRONMENT()).map(([name, value]) => `export ${name}="${value}"\n`);
  const words = qemuProgram().map((word) => `"${word}"`);
  return `#!/bin/sh
# ${FOREIGN_CLIENT.about}. The device is at the socket $1.
${environment.join('')}{ sleep 1; echo quit; } | ${words.join(' ')} ${FOREIGN_CLIENT.args}
`;
}

/** A program of the root with its loader and libraries, for a caller outside the root. */
export function rootProgram(program: string): readonly [string, ...string[]] {
  const root = labPath('root');
  return [`${root}/${LOADER}`, '--library-path', `${root}/${SYSTEM_LIBRARIES}`, `${root}/${program}`];
}
