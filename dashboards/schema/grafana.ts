// The type of a dashboard, made from Grafana's own types. `make dashboards` writes each dashboard into a file that declares a constant of
// the type `Board`, and the compiler checks it.

import type * as grafana from "@grafana/schema";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** The type in JSON, where an enum has its value instead of its name. */
type Json<T> = unknown extends T ? T : T extends string ? `${T}` : T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;

/** A query of the Prometheus data source, for which Grafana has no schema. */
interface Target {
  refId: string;
  datasource: { type: "prometheus"; uid: "${datasource}" };
  expr: string;
}
interface Query extends Target {
  editorMode: "code";
  instant: boolean;
  range: boolean;
  legendFormat: string;
  format?: "table" | "heatmap";
}
interface Annotation extends Omit<grafana.AnnotationQuery, "target"> {
  target: Target & { interval: string };
  titleFormat: string;
  textFormat: string;
  useValueForTime: boolean;
}

type Panel<Kind, Options, Custom> = Omit<grafana.Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Kind;
  options: Options;
  targets: Query[];
  fieldConfig: Omit<grafana.FieldConfigSource, "defaults"> & { defaults: Omit<grafana.FieldConfig, "custom"> & { custom?: Custom } };
};

type AnyPanel =
  | Panel<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | Panel<"state-timeline", timeline.Options, timeline.FieldConfig>
  | Panel<"heatmap", heatmap.Options, heatmap.FieldConfig>
  | Panel<"table", table.Options, Partial<table.FieldConfig>>
  | Panel<"stat", stat.Options, never>
  | grafana.RowPanel;

type Dashboard = Omit<grafana.Dashboard, "panels" | "annotations"> & { panels: AnyPanel[]; annotations: { list: Annotation[] } };

export type Board = Json<Dashboard>;

// Proves that the types find faults: a legend has no mode `grid`.
const tooltip = { mode: "multi", sort: "desc" } as const;
// @ts-expect-error
export const wrong: Json<timeseries.Options> = { tooltip, legend: { displayMode: "grid", placement: "bottom", showLegend: true, calcs: [] } };
