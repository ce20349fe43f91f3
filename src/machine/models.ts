/** The models that devices of a machine file have, and their properties, from the schema that files are checked by. */
import { type FileField, fieldsOf, jsonSchemaOf } from './json-schema.ts';
import { machineSchema } from './schema.ts';

export interface ModelView {
  model: string;
  description: string;
  properties: FileField[];
}

export function deviceModels(): ModelView[] {
  const kinds = jsonSchemaOf(machineSchema).properties!.devices.items!.oneOf!;
  return kinds.map((kind) => ({
    model: String(kind.properties!.model.const),
    description: kind.description ?? '',
    properties: fieldsOf(kind).filter(({ path }) => path !== 'model'),
  }));
}
