/** A line about each command: `barter --help` prints these without loading the commands. */
import type { Command } from 'commander';

export const SUMMARIES = {
  demo: 'two devices served by one process, a client here: export, map, peer-to-peer DMA, every revoke',
  serve: 'serve each device of a machine at DIR/NAME.sock, for QEMU and other vfio-user clients',
  import: 'lend a BAR to a second process, or to a DMA engine of a second server, and take it back',
  inspect: 'show a machine, or the device of any vfio-user server: BARs, capabilities, who reaches whom',
  capture: 'write a machine file from real devices, or from those of vfio-user servers',
  peek: "read a region of any vfio-user server's device",
  poke: "write a region of any vfio-user server's device",
  conform: "try the vfio-user protocol's rules on any server or client, and tell which are broken",
  screenshot: 'write what the screen of a served device shows to a PNG',
  devices: 'list the device models of machine files, and their properties',
  run: 'run a scenario once and print each step with its outcome',
  explore: 'runs a scenario through every interleaving that matters; shows the shortest one that breaks an invariant',
  worker: 'search parts for barter explore --queue, on this machine or any other',
  queue: 'show or end what the workers of a queue do',
  replay: 'runs the schedule of a replay file again; or says a capture again to a vfio-user server',
  scenarios: 'lists what explore and run know by name',
  reproducer: 'write a scenario as one C file that shows by system calls what a kernel does',
  lab: "a real QEMU and a real Linux, from the distribution's packages",
  'check-tasks': 'find tasks that never run in a TypeScript project: a forgotten yield*, a task as a condition',
  complete: 'print a script that completes commands, options and names in bash, zsh, fish or powershell',
  bench: 'run a benchmark, or all of them; exits with 1 when one is below its bar',
} as const;

/** Adds the command to `program`, with its summary. */
export function declareCommand(program: Command, name: keyof typeof SUMMARIES): Command {
  return program.command(name).description(SUMMARIES[name]);
}
