"""The stacks that the checks deploy: a network, and a group of machines in it."""

import base64

REGION = "eu-west-1"

NETWORK = {
    "Parameters": {
        "Zones": {"Type": "CommaDelimitedList", "Default": f"{REGION}a,{REGION}b"},
        "Second": {"Type": "String", "Default": "10.99.2.0/24"},
    },
    "Resources": {
        "Vpc": {
            "Type": "AWS::EC2::VPC",
            "Properties": {
                "CidrBlock": "10.99.0.0/16",
                "EnableDnsHostnames": True,
                "Tags": [{"Key": "Name", "Value": {"Ref": "AWS::StackName"}}],
            },
        },
        "SubnetA": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {
                "VpcId": {"Ref": "Vpc"},
                "CidrBlock": "10.99.1.0/24",
                "AvailabilityZone": {"Fn::Select": [0, {"Ref": "Zones"}]},
                "MapPublicIpOnLaunch": True,
            },
        },
        "SubnetB": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {
                "VpcId": {"Ref": "Vpc"},
                "CidrBlock": {"Ref": "Second"},
                "AvailabilityZone": {"Fn::Select": [1, {"Ref": "Zones"}]},
                "MapPublicIpOnLaunch": True,
            },
        },
        "Gateway": {"Type": "AWS::EC2::InternetGateway"},
        "Attachment": {
            "Type": "AWS::EC2::VPCGatewayAttachment",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "InternetGatewayId": {"Ref": "Gateway"}},
        },
        "Routes": {"Type": "AWS::EC2::RouteTable", "Properties": {"VpcId": {"Ref": "Vpc"}}},
        "Out": {
            "Type": "AWS::EC2::Route",
            "DependsOn": "Attachment",
            "Properties": {
                "RouteTableId": {"Ref": "Routes"},
                "DestinationCidrBlock": "0.0.0.0/0",
                "GatewayId": {"Ref": "Gateway"},
            },
        },
        "RoutesA": {
            "Type": "AWS::EC2::SubnetRouteTableAssociation",
            "Properties": {"RouteTableId": {"Ref": "Routes"}, "SubnetId": {"Ref": "SubnetA"}},
        },
        "Firewall": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": "machines",
                "VpcId": {"Ref": "Vpc"},
                "SecurityGroupIngress": [
                    {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIp": "0.0.0.0/0"},
                    {"IpProtocol": "-1", "CidrIp": "10.99.0.0/16"},
                ],
                "SecurityGroupEgress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}],
            },
        },
    },
    "Outputs": {
        "VpcId": {"Value": {"Ref": "Vpc"}},
        "Subnets": {"Value": {"Fn::Join": [",", [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}]]}},
        "SecurityGroupId": {"Value": {"Fn::GetAtt": ["Firewall", "GroupId"]}},
    },
}


def group_template(user_data: str, hook: bool = True) -> dict:
    group = {
        "AutoScalingGroupName": {"Ref": "AWS::StackName"},
        "MinSize": 1,
        "MaxSize": 5,
        "DesiredCapacity": {"Ref": "Capacity"},
        "VPCZoneIdentifier": {"Ref": "Subnets"},
        "HealthCheckType": "EC2",
        "HealthCheckGracePeriod": 30,
        "LaunchTemplate": {
            "LaunchTemplateId": {"Ref": "Template"},
            "Version": {"Fn::GetAtt": ["Template", "LatestVersionNumber"]},
        },
        "Tags": [
            {"Key": "fleetwright:role", "Value": "worker", "PropagateAtLaunch": True},
            {"Key": "only:group", "Value": "yes", "PropagateAtLaunch": False},
        ],
    }
    if hook:
        group["LifecycleHookSpecificationList"] = [
            {
                "LifecycleHookName": "drain",
                "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
                "HeartbeatTimeout": 300,
                "DefaultResult": "CONTINUE",
            }
        ]
    return {
        "Parameters": {
            "Subnets": {"Type": "List<AWS::EC2::Subnet::Id>"},
            "SecurityGroupId": {"Type": "AWS::EC2::SecurityGroup::Id"},
            "ImageId": {"Type": "AWS::EC2::Image::Id", "Default": "ami-12345678"},
            "Capacity": {"Type": "Number", "Default": 3},
        },
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "AssumeRolePolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Effect": "Allow",
                                "Principal": {"Service": "ec2.amazonaws.com"},
                                "Action": "sts:AssumeRole",
                            }
                        ],
                    },
                    "Policies": [
                        {
                            "PolicyName": "rendezvous",
                            "PolicyDocument": {
                                "Version": "2012-10-17",
                                "Statement": [{"Effect": "Allow", "Action": "ssm:*", "Resource": "*"}],
                            },
                        }
                    ],
                },
            },
            "Profile": {"Type": "AWS::IAM::InstanceProfile", "Properties": {"Roles": [{"Ref": "Role"}]}},
            "Template": {
                "Type": "AWS::EC2::LaunchTemplate",
                "Properties": {
                    "LaunchTemplateName": {"Ref": "AWS::StackName"},
                    "LaunchTemplateData": {
                        "ImageId": {"Ref": "ImageId"},
                        "InstanceType": "t3.small",
                        "IamInstanceProfile": {"Arn": {"Fn::GetAtt": ["Profile", "Arn"]}},
                        "SecurityGroupIds": [{"Ref": "SecurityGroupId"}],
                        "MetadataOptions": {"HttpTokens": "required"},
                        "UserData": encode(user_data),
                        "TagSpecifications": [
                            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "machine"}]}
                        ],
                    },
                },
            },
            "Group": {"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": group},
        },
        "Outputs": {
            "GroupName": {"Value": {"Ref": "Group"}},
            "Version": {"Value": {"Fn::GetAtt": ["Template", "LatestVersionNumber"]}},
            "RoleArn": {"Value": {"Fn::GetAtt": ["Role", "Arn"]}},
        },
    }


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
