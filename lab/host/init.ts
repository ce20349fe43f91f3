/** The scripts that are a guest's first process. They run in busybox, and leave the host's files as they are. */

/** The mounts that everything else needs, in the format of /etc/fstab. */
export const FIRST_MOUNTS = `proc /proc proc
sys /sys sysfs
dev /dev devtmpfs
`;

/** The host's root, which the guest can only read, with a /proc, /sys and /dev of its own. */
export const HOST_MOUNTS = `host /host 9p trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro
proc /host/proc proc
sys /host/sys sysfs
debug /host/sys/kernel/debug debugfs
dev /host/dev devtmpfs
tmp /host/dev/shm tmpfs
pts /host/dev/pts devpts
`;

/** What /dev has besides the kernel's nodes: folders, and links by their targets. */
export const DEV_FOLDERS = ['shm', 'pts'];
export const DEV_LINKS: ReadonlyMap<string, string> = new Map([
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
]);

/**
 * The beginning of every script. Under TCG a program takes some 20 ms to start, so that each does as much as it can:
 * one mount(8) for several file systems, one copy for all of /dev.
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

/** Where a guest can write: a file system in its memory. */
const SCRATCH = '/dev/shm';

/** Runs the agent, a program of the host's Node, and powers off when it ends. */
export function agentInit(node: string, agent: string, path: string): (modules: readonly string[]) => string {
  return (modules) => `${mounts(modules)}export TMPDIR=${SCRATCH} HOME=${SCRATCH}
PATH=${quoted(path)} /bin/chroot /host ${quoted(node)} ${quoted(agent)}
echo "barter: the agent ended with $?"
echo o > /proc/sysrq-trigger
sleep 5
`;
}

/** What a guest runs for `barter lab exec`. */
export interface ExecProgram {
  command: readonly string[];
  /** A folder of the host. */
  cwd: string;
  environment: Readonly<Record<string, string>>;
  /** Modules from outside of the kernel's own, by their paths on the host. */
  modules: readonly string[];
  /** Folders of the host that the guest may write, by the tags of their devices. */
  shares: ReadonlyMap<string, string>;
  /** Lines of a shell that run as root before the command; a line that fails ends it. */
  setup: readonly string[];
  /** With a terminal: its size. Otherwise input and output have ports of their own. */
  terminal: { rows: number; columns: number } | null;
}

/** The ports of a guest that runs a program, in the order of their numbers: the last to be connected is `control`. */
export const EXEC_PORTS = ['stdin', 'stdout', 'stderr', 'control'] as const;

/**
 * Runs a program and tells on the port `control`: "started RELEASE"; "failed TEXT" where it does not come to that;
 * "reading" once the port of its input is open, since QEMU loses an end that comes before that; and "status N" once all
 * that the program has written is out. Pipes lie between the program and the ports, since a port can be opened once
 * only. A write to `control` waits until the host is there, and then the host is there for all ports: a read before
 * that would be an end of file.
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
 * The pipes have no names: one that has a name cannot be opened again, as /dev/stdin is, once its writer has gone. What
 * the command has left running would keep its output open, so that it ends with the command; the four that carry the
 * output note their numbers.
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

/** A first process that says that it runs and that its instructions do what they should, and powers off. */
export function bareInit(message: string): string {
  return `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
echo ${quoted(message)} > /dev/console
/bin/busybox poweroff -f
`;
}

/** A word for a POSIX shell that is the text itself. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
