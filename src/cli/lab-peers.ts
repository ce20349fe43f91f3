/** barter lab peers: builds vfio-user servers of others, and prints the programs that start them. */
import type { Command } from 'commander';
import { DISTRIBUTION } from '../../lab/kernel/named.ts';
import { FOREIGN_SERVERS, foreignServerPath } from '../../lab/peers/peers.ts';
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
  barter conform server -- ~/.cache/barter/lab/peers/qemu-edu {socket}`,
    )
    .action(({ json }: { json?: true }) =>
      reported(async () => {
        await prepareMissing(DISTRIBUTION, json === true, ['peers']);
        const servers = FOREIGN_SERVERS.map((server) => ({ ...server, path: foreignServerPath(server) }));
        if (json === true) {
          console.log(JSON.stringify({ servers: servers.map(({ name, about, path }) => ({ name, about, path })) }));
        } else
          console.log(
            textTable(
              ['server', 'program'],
              servers.map(({ about, path }) => [about, path]),
            ),
          );
      }),
    );
}
