-- How many versions or files the document lists; NULL where it is no list, or came in before this was
-- written down.
ALTER TABLE document ADD COLUMN versions INTEGER;
