/** barter conform: tries the vfio-user protocol's rules on any server, and deviations of a server on any client. */
import type { Command } from 'commander';
import { addConformClientCommand } from './conform-client.ts';
import { addConformServerCommand } from './conform-server.ts';
import { declareCommand } from './summaries.ts';

export function addConformCommands(program: Command): void {
  const conform = declareCommand(program, 'conform');
  addConformServerCommand(conform);
  addConformClientCommand(conform);
  for (const command of conform.commands) command.exitOverride();
}
