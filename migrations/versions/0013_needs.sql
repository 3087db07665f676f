-- What a study needs of a worker's device: the memory of a GPU in GB, as its maker names it. NULL: any device will do.
ALTER TABLE trimtab.studies ADD COLUMN gpu_memory_gb double precision
    GENERATED ALWAYS AS (CAST(document #>> '{needs,gpu_memory_gb}' AS double precision)) STORED;

-- The largest such need that a worker can serve; 0: it has no GPU. A driver keeps up to 7 percent of what the maker names.
ALTER TABLE trimtab.workers ADD COLUMN gpu_memory_gb double precision NOT NULL
    GENERATED ALWAYS AS (CASE WHEN starts_with(device, 'cuda') THEN coalesce(memory_bytes, 0) / 0.93e9 ELSE 0 END) STORED;
