"""What tests share: databases, documents, a service under test."""
