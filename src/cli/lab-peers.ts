/** barter lab peers: builds vfio-user servers of others, and prints the programs that start them and QEMU's client. */
import type { Command } from 'commander';
import { DISTRIBUTION } from '../../lab/kernel/named.ts';
import { writePeerPrograms } from '../../lab/peers/build.ts';
import { FOREIGN_CLIENT, FOREIGN_SERVERS, foreignPath } from '../../lab/peers/peers.ts';
import { textTable } from '../report/table.ts';
import { reported } from './lab-options.ts';
import { prepareMissing } from './lab-prepare.ts';

export function addPeersCommand(lab: Command): void {
  lab
    .command('peers')
    .description("build QEMU's vfio-user server and libvfio-user's samples from the distribution's source, once")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Each program takes the path of its socket. docs/peers.md has the verdicts on them.

Examples:
  barter lab peers
  barter conform server -- ~/.cache/barter/lab/peers/qemu-edu {socket}
  barter conform client --timeout 12000 -- ~/.cache/barter/lab/peers/qemu-client {socket}`,
    )
    .action(({ json }: { json?: true }) =>
      reported(async () => {
        await prepareMissing(DISTRIBUTION, json === true, ['peers']);
        writePeerPrograms();
        const named = ({ name, about }: { name: string; about: string }) => ({
          name,
          about,
          path: foreignPath({ name }),
        });
        const [servers, clients] = [FOREIGN_SERVERS.map(named), [named(FOREIGN_CLIENT)]];
        if (json === true) return console.log(JSON.stringify({ servers, clients }));
        const rows = (peers: { about: string; path: string }[]) => peers.map(({ about, path }) => [about, path]);
        console.log(
          `${textTable(['server', 'program'], rows(servers))}\n\n${textTable(['client', 'program'], rows(clients))}`,
        );
      }),
    );
}
