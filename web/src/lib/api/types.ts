/** The API's forms under the names the pages use. Generated from its OpenAPI: nothing by hand. */
import type { components } from "@/lib/api/schema";

type Schemas = components["schemas"];

export type SignIn = Schemas["LoginForm"];
export type Tokens = Schemas["TokensView"];
export type Me = Schemas["MeView"];

export type Device = Schemas["DeviceView"];
export type DeviceStatus = Device["status"];
export type Credentials = Schemas["CredentialsView"];
export type CreatedDevice = Schemas["CreatedDevice"];
export type Command = Schemas["CommandView"];
export type Twin = Schemas["TwinView"];
export type Aggregation = Schemas["DeviceData"]["aggregation"];

/** The newest value of one metric. */
export interface LatestValue {
  metric: string;
  value: number | null;
  time: string;
}

export type Workflow = Schemas["WorkflowSummary"];
export type WorkflowDetails = Schemas["WorkflowView"];
export type SavedWorkflow = Schemas["SavedWorkflow"];
export type Finding = Schemas["FindingView"];
export type Run = Schemas["ExecutionSummary"];
export type RunDetails = Schemas["ExecutionView"];
export type RunStatus = Run["status"];
export type StepRun = Schemas["StepView"];

export type Alarm = Schemas["AlertView"];
