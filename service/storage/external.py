"""External studies in SQL: conditions on a study `s` whose trials loops of a person's own train, or trimtab's workers."""

IS_PROBE = "(s.data IS NULL AND NOT s.external)"
"""Whether the next lease of a study is its probe; of an external study no data are ever told."""

MAY_TAKE = "w.study_id IS NOT DISTINCT FROM CASE WHEN s.external THEN s.study_id END"
"""Whether trials of a study are for a worker `w`: those of an external one for its loops, all others for our workers."""

IS_LARGE_ENOUGH = (
    "(coalesce(s.gpu_memory_gb, 0) <= w.gpu_memory_gb AND s.devices_per_trial <= w.devices)"
)
"""Whether a worker `w` has the devices that a study needs; each worker says at its start what it has."""

FOR_CLAIMANT = f"""EXISTS (
        SELECT FROM trimtab.workers w WHERE w.worker_id = CAST(:worker_id AS uuid) AND {MAY_TAKE} AND {IS_LARGE_ENOUGH})"""
"""Both of the worker that claims."""
