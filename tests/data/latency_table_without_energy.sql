BEGIN TRANSACTION;
CREATE TABLE latencies (
  run_id INTEGER NOT NULL REFERENCES runs (id), part_id INTEGER NOT NULL REFERENCES parts (id),
  setting INTEGER NOT NULL, started_us INTEGER NOT NULL, source_sha256 TEXT, status TEXT, reason TEXT, count INTEGER, p50_ms REAL, p50_low_ms REAL, p50_high_ms REAL, p90_ms REAL, p99_ms REAL, mean_ms REAL, cv REAL, flags TEXT, load_ms REAL, peak_memory_bytes INTEGER,
  checksum INTEGER NOT NULL, PRIMARY KEY (run_id, part_id),
  CHECK (status IN ('ok', 'failed')), CHECK ((status = 'ok') = (p50_ms IS NOT NULL)), CHECK (p50_ms >= 0),
  CHECK ((status = 'failed') = (reason IS NOT NULL))
) WITHOUT ROWID;
INSERT INTO "latencies" VALUES(1,1,8544249834841312968,1785578400000000,'sha of head','ok',NULL,70,3.0,2.94,3.06,NULL,NULL,NULL,NULL,'["drift: slower"]',12.5,8589934592,3257224904);
INSERT INTO "latencies" VALUES(1,2,8544249834841312968,1785578400000000,'sha of encode','failed','it broke',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2272556177);
INSERT INTO "latencies" VALUES(2,1,8544249834841312968,1785578460000000,'sha of head','ok',NULL,70,2.0,1.96,2.04,NULL,NULL,NULL,NULL,NULL,NULL,NULL,289729616);
CREATE TABLE parts (
  id INTEGER PRIMARY KEY, target TEXT NOT NULL, variant TEXT, layer TEXT, part TEXT, codec TEXT, precision TEXT, batch INTEGER,
  UNIQUE (target, variant, layer, part, codec, precision, batch)
);
INSERT INTO "parts" VALUES(1,'cpu','pruned','conv4_1','head','','fp32',1);
INSERT INTO "parts" VALUES(2,'cpu','pruned','conv4_1','encode','rans','fp32',1);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, run TEXT, started_at TEXT, target TEXT, origin TEXT, host TEXT, processor TEXT, backend TEXT, backend_version TEXT, threads INTEGER, affinity TEXT, power_mode TEXT, driver TEXT, tensorrt TEXT, l4t TEXT, warm_up INTEGER, rounds INTEGER, steady INTEGER, interleaved INTEGER, in_chains INTEGER, reference_sha256 TEXT, reference_count INTEGER, reference_p50_ms REAL, reference_p50_low_ms REAL, reference_p50_high_ms REAL, file_sha256 TEXT, samples_sha256 TEXT,
  started_us INTEGER NOT NULL, setting INTEGER NOT NULL, checksum INTEGER NOT NULL, UNIQUE (run)
);
INSERT INTO "runs" VALUES(1,'20260801T100000Z-00000000','2026-08-01T10:00:00.000+00:00','cpu','measured','here','Some CPU','onnxruntime','1.20.0',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'the reference',NULL,0.5,0.495,0.505,NULL,NULL,1785578400000000,8544249834841312968,31970363);
INSERT INTO "runs" VALUES(2,'20260801T100100Z-00000001','2026-08-01T10:01:00.000+00:00','cpu','measured','here','Some CPU','onnxruntime','1.20.0',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1785578460000000,8544249834841312968,1048986225);
CREATE INDEX runs_by_start ON runs (target, started_us, run);
CREATE INDEX latencies_by_part ON latencies (part_id, setting, started_us);
CREATE VIEW measurements AS
SELECT runs.run, runs.started_at, runs.target, runs.origin, runs.host, runs.processor, runs.backend, runs.backend_version, runs.threads, runs.affinity, runs.power_mode, runs.driver, runs.tensorrt, runs.l4t, runs.warm_up, runs.rounds, runs.steady, runs.interleaved, runs.in_chains, runs.reference_sha256, runs.reference_count, runs.reference_p50_ms, runs.reference_p50_low_ms, runs.reference_p50_high_ms, runs.file_sha256, runs.samples_sha256, parts.variant, parts.layer, parts.part, parts.codec, parts.precision, parts.batch,
  latencies.source_sha256, latencies.status, latencies.reason, latencies.count, latencies.p50_ms, latencies.p50_low_ms, latencies.p50_high_ms, latencies.p90_ms, latencies.p99_ms, latencies.mean_ms, latencies.cv, latencies.flags, latencies.load_ms, latencies.peak_memory_bytes
FROM latencies JOIN runs ON runs.id = latencies.run_id JOIN parts ON parts.id = latencies.part_id;
COMMIT;
