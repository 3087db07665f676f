-- How often the space was changed: each claim compares it, and none needs to open the document for it.
ALTER TABLE trimtab.studies ADD COLUMN space_edits integer NOT NULL
    GENERATED ALWAYS AS (coalesce(json_array_length(document -> 'space_edits'), 0)) STORED;
