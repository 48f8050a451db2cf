"""CloudFormation resource types that LocalStack lacks or updates wrongly."""
