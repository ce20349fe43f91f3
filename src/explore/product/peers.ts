/** The machine of the product's scenarios: the lender and the borrower of examples/two-peers.yaml. */
import { fileURLToPath } from 'node:url';
import { loadMachine } from '../../machine/load.ts';

export const PEERS = loadMachine(fileURLToPath(new URL('../../../examples/two-peers.yaml', import.meta.url)));
