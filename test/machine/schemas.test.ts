/**
 * The files generated from the schemas are current: schemas/*.json for editors, and the tables of the reference pages.
 * BARTER_UPDATE_GOLDEN=1 writes them anew.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile } from 'json-schema-to-typescript';
import * as z from 'zod';
import { type FileField, fieldsOf, jsonSchemaOf } from '../../src/machine/json-schema.ts';
import { deviceModels } from '../../src/machine/models.ts';
import { machineSchema } from '../../src/machine/schema.ts';
import { scenarioSchema, stepSchema } from '../../src/scenario/step.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const isUpdate = process.env.BARTER_UPDATE_GOLDEN !== undefined;

function current(path: string, wanted: string): void {
  if (isUpdate) writeFileSync(join(ROOT, path), wanted);
  const found = readFileSync(join(ROOT, path), 'utf8');
  assert.ok(found === wanted, `${path} is not what the schema says; BARTER_UPDATE_GOLDEN=1 writes it anew`);
}

const SCHEMAS: Record<string, [z.ZodType, string]> = {
  machine: [machineSchema, "A machine of Barter's: ports and devices"],
  scenario: [scenarioSchema, "A scenario of Barter's: tasks and their steps"],
};

for (const [name, [schema, title]] of Object.entries(SCHEMAS)) {
  test(`schemas/${name}.schema.json is the schema that files are checked by`, () => {
    current(`schemas/${name}.schema.json`, `${JSON.stringify({ title, ...jsonSchemaOf(schema) }, null, 1)}\n`);
  });
}

/** The type of a checked machine file: every default is filled in, and sizes are numbers. */
async function descriptionSource(): Promise<string> {
  const schema = z.toJSONSchema(machineSchema, {
    io: 'output',
    unrepresentable: 'any',
    override: ({ zodSchema, jsonSchema }) => {
      if (zodSchema._zod.def.type === 'transform') jsonSchema.type = 'number';
      // A list with a smallest length would become a union of tuples.
      delete jsonSchema.minItems;
    },
  });
  const bannerComment =
    '/** The type of machine descriptions, generated from their schema (test/machine/schemas.test.ts). */';
  const options = { bannerComment, additionalProperties: false, style: { singleQuote: true, printWidth: 120 } };
  const text = await compile(schema as Parameters<typeof compile>[0], 'MachineDescription', options);
  // A field that may be left out may be undefined, also where a program demands exact optional properties.
  const optional = text
    .replace(/^( *\w+\?: [^{\n]+);$/gm, '$1 | undefined;')
    .replace(/^( *)(\w+\?: \{\n[\s\S]*?\n\1\});$/gm, '$1$2 | undefined;');
  const documented = optional
    .replace(/^( *)\/\*\*\n *\* (.{1,100})\n *\*\/$/gm, '$1/** $2 */')
    .replace(
      'export interface',
      '/** A machine: what its file says, with every default filled in. */\nexport interface',
    );
  const { stdout, status } = spawnSync(join(ROOT, 'node_modules/.bin/biome'), ['format', '--stdin-file-path=a.ts'], {
    cwd: ROOT,
    input: documented,
    encoding: 'utf8',
  });
  assert.equal(status, 0);
  return stdout;
}

test('src/machine/description.ts is the type of what the schema gives', async () => {
  current('src/machine/description.ts', await descriptionSource());
});

/** Returns a page with its tables inserted between their marks. */
function withTables(path: string, tables: Record<string, string>): string {
  const page = readFileSync(join(ROOT, path), 'utf8');
  return page.replaceAll(/<!-- generated: ([\w-]+) -->\n[\s\S]*?<!-- end -->/g, (_, name: string) => {
    assert.ok(name in tables, `${path} wants a table ${name}`);
    return `<!-- generated: ${name} -->\n${tables[name]}\n<!-- end -->`;
  });
}

function tableOf(fields: readonly FileField[]): string {
  const rows = fields.map(({ path, values, isRequired, default: initial, description }) => {
    const shown = isRequired ? 'required' : initial === null || initial === '{}' ? '' : `\`${initial || '""'}\``;
    return `| \`${path}\` | ${values.replaceAll('|', ', ')} | ${shown} | ${description} |`;
  });
  return ['| field | values | default | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

test('docs/machine-files.md has every field', () => {
  const models = deviceModels().map(({ model, properties }) => [model, tableOf(properties)] as const);
  const fields = fieldsOf(jsonSchemaOf(machineSchema));
  const tables = { ...Object.fromEntries(models), machine: tableOf(fields) };
  current('docs/machine-files.md', withTables('docs/machine-files.md', tables));
});

test('docs/scenario-files.md has every field and every step', () => {
  const steps = jsonSchemaOf(stepSchema).oneOf!;
  const rows = steps.map(({ properties = {}, required = [], description = '' }) => {
    const { op, expect: _, linux: __, next: ___, ...own } = properties;
    const fields = Object.keys(own).map((name) => `\`${name}${required.includes(name) ? '' : '?'}\``);
    return `| \`${op.const}\` | ${fields.join(' ')} | ${description} |`;
  });
  const tables = {
    scenario: tableOf(fieldsOf(jsonSchemaOf(scenarioSchema)).filter(({ path }) => !path.includes('[]'))),
    steps: ['| step | fields | what it does |', '| --- | --- | --- |', ...rows].join('\n'),
  };
  for (const { properties, description } of steps) assert.ok(description, `${properties!.op.const} is described`);
  current('docs/scenario-files.md', withTables('docs/scenario-files.md', tables));
});

test('every example names its schema for editors', () => {
  for (const folder of ['examples', 'examples/scenarios']) {
    for (const file of readdirSync(join(ROOT, folder)).filter((name) => name.endsWith('.yaml'))) {
      const path = join(ROOT, folder, file);
      const [first] = readFileSync(path, 'utf8').split('\n');
      const match = /^# yaml-language-server: \$schema=(\S+)$/.exec(first);
      assert.ok(match !== null, `${folder}/${file} names its schema in its first line`);
      const kind = folder === 'examples' ? 'machine' : 'scenario';
      assert.equal(relative(ROOT, resolve(dirname(path), match[1])), `schemas/${kind}.schema.json`);
    }
  }
});
