# End Conversation from Terraform: CloudFormation deploys the packaged template as it is.
#
#   sam build                                        (not in an unpacked release)
#   sam package --s3-bucket BUCKET --output-template-file packaged.yaml
#   terraform apply -var bucket=BUCKET -var template=packaged.yaml

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "bucket" {
  description = "S3 bucket of sam package, in the stack's region."
  type        = string
}

variable "template" {
  description = "Template written by sam package."
  type        = string
  default     = "packaged.yaml"
}

variable "parameters" {
  description = "Parameters of the stack: docs/settings.md."
  type        = map(string)
  default = {
    TwilioSecretId  = "end-conversation/twilio"
    AllowedFlowSids = "FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b"
  }
}

data "aws_s3_bucket" "packages" {
  bucket = var.bucket
}

# The template is too large for a CloudFormation request.
resource "aws_s3_object" "template" {
  bucket = var.bucket
  key    = "end-conversation/${filesha256(var.template)}.yaml"
  source = var.template
}

resource "aws_cloudformation_stack" "end_conversation" {
  name         = "end-conversation"
  template_url = "https://${data.aws_s3_bucket.packages.bucket_regional_domain_name}/${aws_s3_object.template.key}"
  parameters   = var.parameters

  # The template has roles, and transforms.
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
}

output "end_conversation_url" {
  description = "URL for HTTP callers, who sign with SigV4."
  value       = aws_cloudformation_stack.end_conversation.outputs["EndConversationUrl"]
}

output "queue_url" {
  description = "Queue for SQS callers."
  value       = aws_cloudformation_stack.end_conversation.outputs["QueueUrl"]
}

output "queue_arn" {
  description = "Resource of sqs:SendMessage in the policies of SQS callers."
  value       = aws_cloudformation_stack.end_conversation.outputs["QueueArn"]
}
