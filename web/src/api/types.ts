// SPDX-License-Identifier: Apache-2.0
// The API's documents, by the names that its OpenAPI document has for them: schema.d.ts is made of that (tools/dashboard
// types) before anything is checked, so a page that reads what is not there any more does not pass.

import type { components } from "./schema.d.ts";

type Schemas = components["schemas"];

export type Affected = Schemas["Affected"];
export type Audited = Schemas["AuditView"];
export type Caller = Schemas["Caller"];
export type Difference = Schemas["Difference"];
export type Explanation = Schemas["Explanation"];
export type Holdings = Schemas["Holdings"];
export type Plan = Schemas["Plan"];
export type Revision = Schemas["RevisionView"];
export type RevisionSummary = Schemas["RevisionSummary"];
export type Role = Schemas["Role"];
export type ServiceView = Schemas["ServiceView"];
export type Session = Schemas["SessionView"];
export type Token = Schemas["Token"];
export type NewToken = Schemas["NewToken"];
