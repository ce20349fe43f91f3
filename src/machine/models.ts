/** The models of devices in machine files, with their properties, taken from the schema that checks the files. */
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
