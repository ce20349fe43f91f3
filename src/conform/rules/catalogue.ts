/** All rules for servers, by group. */
import type { Rule } from '../rule.ts';
import { ACCESS_RULES } from './access.ts';
import { CONFIG_RULES } from './config.ts';
import { DMA_RULES } from './dma.ts';
import { FEATURE_RULES } from './feature.ts';
import { FRAMING_RULES } from './framing.ts';
import { HEADER_RULES } from './header.ts';
import { INFO_RULES } from './info.ts';
import { IO_FDS_RULES } from './io-fds.ts';
import { IRQ_RULES } from './irq.ts';
import { IRQ_SIGNAL_RULES } from './irq-signals.ts';
import { LOG_RULES } from './log.ts';
import { MAP_RULES } from './map.ts';
import { MIGRATION_RULES } from './migration.ts';
import { MULTI_RULES } from './multi.ts';
import { REGION_RULES } from './region.ts';
import { RESET_RULES } from './reset.ts';
import { UNMAP_RULES } from './unmap.ts';
import { VERSION_RULES } from './version.ts';

export const RULES: readonly Rule[] = [
  ...[HEADER_RULES, FRAMING_RULES, VERSION_RULES, INFO_RULES, REGION_RULES, ACCESS_RULES, MULTI_RULES].flat(),
  ...[IO_FDS_RULES, IRQ_RULES, IRQ_SIGNAL_RULES, MAP_RULES, UNMAP_RULES, DMA_RULES, FEATURE_RULES].flat(),
  ...[MIGRATION_RULES, LOG_RULES, RESET_RULES, CONFIG_RULES].flat(),
];
