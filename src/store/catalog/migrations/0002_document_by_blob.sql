-- An evicted blob takes its documents' rows along.
CREATE INDEX document_by_blob ON document (blob);
