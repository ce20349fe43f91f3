/** File schemas as JSON Schema, for editors, and as lists of fields, for `barter devices` and the docs. */
import * as z from 'zod';

/** The part of JSON Schema that zod writes for these files. */
export interface JsonSchema {
  type?: string;
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  pattern?: string;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  items?: JsonSchema;
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
}

/** Returns the schema of a file's input: fields with a default may be left out. Every field stands where it is used. */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: 'input' }) as JsonSchema;
}

export interface FileField {
  /** `bars[].index`: a field of each item of a list. */
  path: string;
  /** `memory|io`, `0..5`, `size`. */
  values: string;
  isRequired: boolean;
  /** The default as files write it; null without one. */
  default: string | null;
  description: string;
}

/** Returns every field, depth first. Skips the alternatives of a list of several kinds. */
export function fieldsOf(schema: JsonSchema, prefix = ''): FileField[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const path = `${prefix}${name}`;
    const field: FileField = {
      path,
      values: valuesOf(property),
      isRequired: schema.required?.includes(name) ?? false,
      default: property.default === undefined ? null : valueText(property.default, property),
      description: property.description ?? '',
    };
    const { items } = property;
    return [field, ...fieldsOf(property, `${path}.`), ...(items === undefined ? [] : fieldsOf(items, `${path}[].`))];
  });
}

function valuesOf(schema: JsonSchema): string {
  const { type, anyOf, oneOf, pattern } = schema;
  if (schema.const !== undefined) return String(schema.const);
  if (schema.enum !== undefined) return schema.enum.join('|');
  if (anyOf !== undefined) return anyOf.every((one) => one.const !== undefined) ? alternatives(anyOf) : 'size';
  if (oneOf !== undefined) return oneOf.map(valuesOf).join('|');
  if (type === 'boolean') return 'true|false';
  if (type === 'integer') return `${valueText(schema.minimum, schema)}..${valueText(schema.maximum, schema)}`;
  if (type === 'string') return pattern?.startsWith('^[A-Za-z]') === true ? 'name' : 'text';
  return type === 'array' ? 'list' : (type ?? 'any');
}

function alternatives(schemas: readonly JsonSchema[]): string {
  return schemas.map(({ const: value }) => String(value)).join('|');
}

/** Writes numbers of more than a byte in hexadecimal, as for registers. */
function valueText(value: unknown, { maximum = 0 }: JsonSchema): string {
  if (typeof value !== 'number' || maximum <= 0xfff || Math.abs(value) < 10)
    return typeof value === 'string' ? value : JSON.stringify(value);
  return `${value < 0 ? '-' : ''}0x${Math.abs(value).toString(16)}`;
}
