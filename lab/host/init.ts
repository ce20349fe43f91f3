/** The scripts of a guest's first process. They run in busybox and do not change the host's files. */

/** The mounts that everything else needs, in the format of /etc/fstab. */
export const FIRST_MOUNTS = `proc /proc proc
sys /sys sysfs
dev /dev devtmpfs
`;

/** The host's root, read-only for the guest, with the guest's own /proc, /sys and /dev. */
export const HOST_MOUNTS = `host /host 9p trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro
proc /host/proc proc
sys /host/sys sysfs
debug /host/sys/kernel/debug debugfs
dev /host/dev devtmpfs
tmp /host/dev/shm tmpfs
pts /host/dev/pts devpts
`;

/** Folders and links (name and target) in /dev besides the kernel's nodes. */
export const DEV_FOLDERS = ['shm', 'pts'];
export const DEV_LINKS: ReadonlyMap<string, string> = new Map([
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
]);

/**
 * The start of every script. Under TCG a program takes some 20 ms to start, so each does as much as it can: one
 * mount(8) for several file systems, one copy for all of /dev.
 */
function mounts(modules: readonly string[]): string {
  return `#!/bin/busybox sh
export PATH=/bin
mount -a -T /first.fstab
cp -a /dev.more/. /dev/
${modules.map((module) => `insmod /lib/${module} || echo "barter: ${module} does not load"`).join('\n')}
mount -a -T /host.fstab
`;
}

/** The guest's writable folder, a file system in its memory. */
const SCRATCH = '/dev/shm';

/** Runs the agent with the host's Node, and powers off when the agent ends. */
export function agentInit(node: string, agent: string, path: string): (modules: readonly string[]) => string {
  return (modules) => `${mounts(modules)}export TMPDIR=${SCRATCH} HOME=${SCRATCH}
PATH=${quoted(path)} /bin/chroot /host ${quoted(node)} ${quoted(agent)}
echo "barter: the agent ended with $?"
echo o > /proc/sysrq-trigger
sleep 5
`;
}

/** The program that a guest runs for `barter lab exec`. */
export interface ExecProgram {
  command: readonly string[];
  /** The working folder, on the host. */
  cwd: string;
  environment: Readonly<Record<string, string>>;
  /** Modules from outside the kernel, by their paths on the host. */
  modules: readonly string[];
  /** Folders of the host that the guest may write, by the tags of their devices. */
  shares: ReadonlyMap<string, string>;
  /** Shell lines that run as root before the command. A line that fails ends the script. */
  setup: readonly string[];
  /** The terminal's size, or null: then input and output have their own ports. */
  terminal: { rows: number; columns: number } | null;
}

/** The ports of a guest that runs a program, in the order of their numbers. The host connects `control` last. */
export const EXEC_PORTS = ['stdin', 'stdout', 'stderr', 'control'] as const;

/**
 * Runs a program and reports on the port `control`:
 * - "started RELEASE" when it starts, or "failed TEXT" if it does not;
 * - "reading" once the port of its input is open, since QEMU loses an end of input that comes earlier;
 * - "status N" once all output of the program is written.
 *
 * Pipes connect the program to the ports, since a port can be opened only once. A write to `control` waits until the
 * host has connected, and then it has connected all ports. An earlier read would return an end of file.
 */
export function execInit(program: ExecProgram): (modules: readonly string[]) => string {
  const { command, cwd, environment, shares, terminal } = program;
  const words = Object.entries({ TMPDIR: SCRATCH, HOME: SCRATCH, ...environment });
  const inHost = [
    ...words.map(([name, value]) => `${name}=${quoted(value)}`),
    ...['/bin/nsenter', '-r/host', `-w${quoted(`/host${cwd}`)}`, ...command.map(quoted)],
  ].join(' ');
  const mountShare = ([tag, path]: [string, string]) =>
    `mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=mmap ${tag} ${quoted(`/host${path}`)}`;
  return (modules) => `${mounts(modules)}
find_ports() {
  for port in /sys/class/virtio-ports/*; do
    [ -e $port/name ] && read -r name < $port/name && eval "port_$name=/dev/\${port##*/}"
  done
  [ -n "$port_stdin" ] && [ -n "$port_stdout" ] && [ -n "$port_stderr" ] && [ -n "$port_control" ]
}
read -r first second release rest < /proc/version
until find_ports; do usleep 2000; done
exec 9>$port_control
echo ports >&9
end() { sync; echo "$1" >&9; poweroff -f; sleep 10; }
must() { why=$("$@" 2>&1) || end "failed $*: $(echo $why)"; }
${[...shares].map((share) => `must ${mountShare(share)}`).join('\n')}
${program.modules.map((path) => `must insmod ${quoted(`/host${path}`)}`).join('\n')}
${program.setup.map((line) => `must sh -c ${quoted(line)}`).join('\n')}
${terminal === null ? runPiped(inHost) : runOnTerminal(inHost, terminal)}
${[...shares.values()].map((path) => `umount ${quoted(`/host${path}`)}`).join('\n')}
end "status $status"
`;
}

/**
 * Runs the program between pipes without names: a named pipe cannot be opened again, as /dev/stdin is, after its writer
 * has ended. Processes left running would keep the output open, so their output ends with the command. The four
 * processes that carry the output record their pids.
 */
function runPiped(inHost: string): string {
  return `keep() { read -r pid rest < /proc/self/stat; echo $pid > /keep.$1; }
finish() {
  echo $1 > /status
  keep main
  until [ -s /keep.left ] && [ -s /keep.out ] && [ -s /keep.err ]; do usleep 1000; done
  kept=" 1 $(cat /keep.*) "; kept=" $(echo $kept) "
  for process in /proc/[0-9]*; do
    case "$kept" in *" \${process#/proc/} "*) ;; *) kill -9 \${process#/proc/} 2>/dev/null ;; esac
  done
}
echo started $release >&9
{
  keep left
  { echo reading >&9; exec cat; } < $port_stdin |
    { ${inHost} 2>&8 8>&- 9>&-; finish $?; } |
    { keep out; exec cat > $port_stdout 8>&- 9>&-; }
} 8>&1 | { keep err; exec cat > $port_stderr 9>&-; }
read -r status < /status`;
}

function runOnTerminal(inHost: string, { rows, columns }: { rows: number; columns: number }): string {
  return `until [ -e /dev/hvc0 ]; do usleep 2000; done
stty rows ${rows} cols ${columns} < /dev/hvc0
echo started $release >&9
setsid -c env ${inHost} < /dev/hvc0 > /dev/hvc0 2>&1 9>&-
status=$?`;
}

/** A first process that reports that it runs and that its instructions work, and then powers off. */
export function bareInit(message: string): string {
  return `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
echo ${quoted(message)} > /dev/console
/bin/busybox poweroff -f
`;
}

/** Quotes a text as one word for a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
