// SPDX-License-Identifier: Apache-2.0
// Reads an OpenAPI document for people: operations by tag, kinds in a word, a body as an example. Pure.

export interface Schema {
  $ref?: string;
  type?: string | string[];
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  default?: unknown;
  examples?: unknown[];
  format?: string;
}

interface Parameter {
  name: string;
  in: string;
  description?: string;
  schema: Schema;
}

interface Content {
  content?: Record<string, { schema?: Schema }>;
}

export interface Document {
  tags: { name: string; description: string }[];
  paths: Record<string, Record<string, { operationId: string; tags?: string[]; description?: string; summary?: string; parameters?: Parameter[]; requestBody?: Content; responses: Record<string, { description?: string; $ref?: string } & Content>; "x-role"?: string }>>;
  components: { schemas: Record<string, Schema> };
}

export interface Operation {
  id: string;
  method: string;
  path: string;
  text: string;
  role: string;
  parameters: Parameter[];
  body: Schema | null;
  answers: [string, string][];
}

export function operationsOf(document: Document): { tag: string; description: string; operations: Operation[] }[] {
  return document.tags.map(({ name, description }) => ({
    tag: name,
    description,
    operations: Object.entries(document.paths).flatMap(([path, item]) =>
      Object.entries(item)
        .filter(([, each]) => each.tags?.includes(name))
        .map(([method, each]) => ({
          id: each.operationId,
          method,
          path,
          text: each.description ?? each.summary ?? "",
          role: each["x-role"] ?? "",
          parameters: each.parameters ?? [],
          body: each.requestBody?.content?.["application/json"]?.schema ?? null,
          answers: Object.entries(each.responses)
            .filter(([status]) => status !== "default")
            .map(([status, answer]): [string, string] => [status, answer.description ?? answer.$ref?.split("/").at(-1) ?? ""]),
        })),
    ),
  }));
}

export function kindOf(schema: Schema): string {
  if (schema.$ref) return schema.$ref.split("/").at(-1) ?? "";
  const branches = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (branches) return branches.map(kindOf).join(" or ");
  if (schema.enum) return schema.enum.join(", ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.items) return `list of ${kindOf(schema.items)}`;
  const kinds = [schema.type ?? "anything"].flat().join(" or ");
  return schema.format ? `${kinds} (${schema.format})` : kinds;
}

/** A body with what is required, by the examples and defaults of its schema. */
export function example(schema: Schema, document: Document, depth = 0): unknown {
  if (schema.$ref) return depth > 5 ? {} : example(document.components.schemas[schema.$ref.split("/").at(-1) ?? ""] ?? {}, document, depth + 1);
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum?.length) return schema.enum[0];
  const branch = (schema.anyOf ?? schema.oneOf)?.[0];
  if (branch && !schema.properties) return schema.type === "string" ? (branch.format === "ipv4" ? "192.0.2.21" : "...") : example(branch, document, depth + 1);
  if (schema.properties) {
    return Object.fromEntries((schema.required ?? []).map((name) => [name, example(schema.properties?.[name] ?? {}, document, depth + 1)]));
  }
  const kind = [schema.type].flat()[0];
  if (kind === "array") return schema.items && depth < 4 ? [example(schema.items, document, depth + 1)] : [];
  return { string: "...", integer: 1, number: 1, boolean: true }[kind ?? ""] ?? {};
}
