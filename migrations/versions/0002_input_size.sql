-- What was a picture's side is the length of any sample: pixels of a picture, tokens of a text.
ALTER TABLE trimtab.memory_findings RENAME COLUMN image_size TO input_size;
